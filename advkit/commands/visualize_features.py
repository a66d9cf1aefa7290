"""``advkit visualize features``: images rebuilt from their features, and what scores call for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from advkit.commands.checks import choices
from advkit.commands.config import command
from advkit.commands.loading import Opened, names_of, open_all, pick_device
from advkit.commands.output import Progress
from advkit.commands.visualize_options import PickOptions, check_pick, chosen_images
from advkit.files.errors import InputError
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.images import ImageSet
    from advkit.figures.features import Picture
    from advkit.models.layer_outputs import LayerOutputs
    from advkit.models.network import Network

KINDS = ("inversion", "maximisation")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig(PickOptions):
    """The options of ``visualize features``."""

    show: Annotated[str, typer.Option(help="inversion, maximisation or both, with a comma.")] = ",".join(KINDS)
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose outputs inversion takes [the last map; the backbone].")
    ] = None
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps to each picture.")] = 200
    step_size: Annotated[
        str | None, typer.Option(metavar="LENGTH", help="L2 length of the first, falling to 0 [0.01 root n].")
    ] = None
    start: Annotated[Literal["noise", "image"], typer.Option(help="Where maximisation begins.")] = "noise"
    eps: Annotated[
        str | None, typer.Option(metavar="RADIUS", help="L2 ball around its start [0.1 root n, n values an image].")
    ] = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The pictures that are asked for."""
        return choices("show", self.show, KINDS)


def check(config: FeaturesConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: options that would do nothing, files that can't be written.
    """
    check_pick(config)
    if "inversion" not in config.kinds:
        config.refuse(("layer",), "does nothing without inversion in --show; leave it out")
    if "maximisation" not in config.kinds:
        config.refuse(("start", "eps"), "does nothing without maximisation in --show; leave it out")


def run(config: FeaturesConfig) -> int:
    """Pictures that every MODEL makes: images rebuilt from its features, and what raises a class's or a box's score."""
    clock = Clock()
    check(config)
    kinds = config.kinds
    names_of(config.models)
    opened = open_all(config, config.models, pick_device(config.device))
    step_size, eps = _lengths(config, opened.images)
    chosen = chosen_images(opened, config)
    from advkit.data.canvas import cut_to_size
    from advkit.figures import features as drawing
    from advkit.models.layer_outputs import LayerOutputs
    from advkit.reports import envelope
    from advkit.reports import visualize_features as reports
    from advkit.tasks.task import task_of

    layers = [LayerOutputs(one, config.layer) for one in opened.networks] if "inversion" in kinds else []
    task, (pixels, targets) = task_of(opened.networks), chosen.batch(slice(None))
    images, objects = cut_to_size(pixels, pixels), task.objects(targets) if task.has_places else None
    pictures = _pictures(opened, chosen, images, layers, config, Budget(config.steps, step_size, eps))
    titled = zip(task.titles(targets, chosen.class_names), chosen.indices.tolist(), strict=True)
    drawing.draw(
        config.figure,
        images,
        [f"{title} ({place})" for title, place in titled],
        opened.names,
        pictures,
        notes=_notes(config, layers, step_size, eps, task.activation_words),
        objects=objects or (),
        class_names=chosen.class_names,
    )
    by_model = {name: layer.layer for name, layer in zip(opened.names, layers, strict=False)}
    result = reports.collect(config.figure, opened.names, by_model, chosen, objects, pictures)
    return envelope.finish(
        "visualize",
        result,
        config,
        table=lambda: reports.table(result),
        clock=clock,
        device=opened.device,
        params={
            "index": list(config.index) or None,
            "pick": config.pick,
            "count": config.count,
            "show": list(kinds),
            "layer": config.layer,
            "steps": config.steps,
            "step_size": step_size,
            "start": config.start,
            "eps": eps,
            "limit": config.limit,
        },
        inputs=opened.inputs(),
        flags=opened.warnings(),
    )


@dataclass(frozen=True)
class Budget:
    """How far a picture may go.

    Attributes:
        steps: along the gradient.
        step_size: L2 length of the first; None goes by the size of the image.
        eps: L2 radius of the ball around the start of maximisation; likewise.
    """

    steps: int
    step_size: float | None
    eps: float | None


def _lengths(config: FeaturesConfig, images: ImageSet) -> tuple[float | None, float | None]:
    """``--step-size`` and ``--eps``.

    Raises:
        InputError: no numbers, 0, or more than there is between any two images.
    """
    from advkit.attacks.budget import check_eps, parse_eps

    found = []
    for option, text in (("step-size", config.step_size), ("eps", config.eps)):
        value = None if text is None else parse_eps(text, option)
        if value == 0.0:
            raise InputError(f"--{option} {text}: nothing would move; give more than 0")
        check_eps(value or 0.0, "l2", text or "", images.size, option)
        found.append(value)
    return found[0], found[1]


def _pictures(
    opened: Opened,
    chosen: ImageSet,
    images: Sequence[Tensor],
    layers: Sequence[LayerOutputs],
    config: FeaturesConfig,
    budget: Budget,
) -> list[Picture]:
    """What every model makes of every image, each by itself."""
    from advkit.figures.feature_images import correlation, invert, maximise, noise
    from advkit.figures.features import Picture

    found = []
    total = len(config.kinds) * len(images) * len(opened.networks)
    with Progress(config.quiet) as progress:
        for kind in config.kinds:
            for row, (pixels, index) in enumerate(zip(images, chosen.indices.tolist(), strict=True)):
                image, target = pixels[None].to(opened.device), chosen.targets[row : row + 1].to(opened.device)
                faint = noise(image, index, config.seed)
                for model, network in enumerate(opened.networks):
                    if kind == "inversion":
                        made = invert(layers[model], image, faint, steps=budget.steps, step_size=budget.step_size)
                    else:
                        made = maximise(
                            network,
                            target,
                            image if config.start == "image" else faint,
                            steps=budget.steps,
                            step_size=budget.step_size,
                            eps=budget.eps,
                        )
                    judged = _recognised(opened.networks, made.picture, target)
                    found.append(Picture(kind, model, row, made, correlation(made.picture, image), judged))
                    progress.step("pictures", len(found), total)
    return found


def _recognised(networks: Sequence[Network], picture: Tensor, target: Tensor) -> list[bool]:
    """Which of ``networks`` predict ``target`` (1, ...) of ``picture`` (1, C, h, w)."""
    from advkit.tasks.prediction import predict
    from advkit.tasks.task import task_of

    task = task_of(networks)
    return [bool(task.correct(predict([network], picture), target)) for network in networks]


def _notes(
    config: FeaturesConfig, layers: Sequence[LayerOutputs], step_size: float | None, eps: float | None, activation: str
) -> dict[str, str]:
    """What the figure says of each kind of picture, and of all."""
    from advkit.figures.feature_images import BALL, STEP

    notes = {}
    if layers:
        names = ", ".join(dict.fromkeys(layer.layer for layer in layers))
        notes["inversion"] = (
            f"outputs of {names} brought to those of the image, from noise; loss: relative squared distance"
        )
    if "maximisation" in config.kinds:
        origin = "the image" if config.start == "image" else "noise"
        notes["maximisation"] = f"raised from {origin}, in an L2 ball of {_length(eps, BALL)}: {activation}"
    words = f"{config.steps} steps along the gradient, the first of L2 length {_length(step_size, STEP)}, falling to 0"
    relative = step_size is None or (eps is None and "maximisation" in config.kinds)
    notes["all"] = f"{words}{'; n values in an image' if relative else ''}; seed {config.seed}"
    return notes


def _length(given: float | None, relative: float) -> str:
    """A length in words; without one it goes by the n values of the image."""
    return f"{relative:g} √n" if given is None else f"{given:g}"


features = command(FeaturesConfig, run)
