"""``advkit visualize``: pictures of what networks attend to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from advkit.commands.checks import check_figure, check_outputs, check_range, choices
from advkit.commands.config import command
from advkit.commands.loading import Opened, names_of, open_all, pick_device
from advkit.commands.run_options import TestOptions
from advkit.files.errors import InputError
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.images import ImageSet
    from advkit.figures.attention import Panel
    from advkit.models.network import Network

app = typer.Typer(help="Draw what networks attend to.", rich_markup_mode=None)

MAPS = ("saliency", "grad-cam")
MOST = 50  # images of one figure that still show anything


@app.callback()
def visualize() -> None:
    """Draw what networks attend to."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(TestOptions):
    """The options of ``visualize attention``."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="[NAME=]MODEL...", help="Networks to explain.")]
    figure: Annotated[Path, typer.Option(metavar="FILE", help="The picture: .png, .svg or .pdf.")]
    index: Annotated[
        tuple[int, ...], typer.Option(min=0, metavar="I", help="This image of the split; repeatable.")
    ] = ()
    pick: Annotated[
        Literal["first", "all-correct", "disagree", "all-wrong"], typer.Option(help="Which images to take.")
    ] = "first"
    count: Annotated[int, typer.Option(min=1, max=MOST, help="Images that --pick takes.")] = 4
    maps: Annotated[str, typer.Option("--map", help="saliency, grad-cam or both, with a comma.")] = "saliency,grad-cam"
    samples: Annotated[int, typer.Option(min=1, help="Noisy copies that saliency averages.")] = 16
    sigma: Annotated[float, typer.Option(help="Their noise, in pixel units of [0, 1].")] = 0.1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The maps that are asked for."""
        return choices("map", self.maps, MAPS)


def check(config: AttentionConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    check_outputs(config, "figure", "report")
    check_figure("figure", config.figure)
    check_range("sigma", config.sigma, 0.0, 1.0)
    if config.index:
        config.refuse(("pick", "count"), "does nothing with --index, which names the images; leave it out")
    if "saliency" not in config.kinds:
        config.refuse(("samples", "sigma"), "does nothing without saliency in --map; leave it out")


def run(config: AttentionConfig) -> int:
    """The same images through every MODEL: smoothed input gradients and Grad-CAM on one colour scale."""
    clock = Clock()
    check(config)
    kinds = config.kinds
    names_of(config.models)
    opened = open_all(config, config.models, pick_device(config.device))
    chosen = _chosen(opened, config)
    panels = [
        _panel(name, network, chosen, config, opened.device)
        for name, network in zip(opened.names, opened.networks, strict=True)
    ]
    from advkit.data.canvas import cut_to_size
    from advkit.figures import attention as drawing
    from advkit.reports import envelope
    from advkit.reports import visualize as reports
    from advkit.tasks.prediction import predict_all
    from advkit.tasks.task import task_of

    task, (pixels, targets) = task_of(opened.networks), chosen.batch(slice(None))
    titled = zip(task.titles(targets, chosen.class_names), chosen.indices.tolist(), strict=True)
    note = f"Explained: {task.explained}."
    if "saliency" in kinds:
        note += f" SmoothGrad: {config.samples} samples, sigma {config.sigma:g}."
    if task.has_places and "grad-cam" in kinds:
        note += " Grad-CAM with the gradient of each place, as HiResCAM has it."
    objects = task.objects(targets) if task.has_places else []
    pairs = drawing.draw(
        config.figure,
        cut_to_size(pixels, pixels),
        [f"{title} ({place})" for title, place in titled],
        panels,
        footnote=note,
        objects=objects,
        class_names=chosen.class_names,
    )
    if task.has_places:
        images = reports.boxed_images(panels, objects, chosen)
    else:
        images = reports.labelled_images(opened.names, predict_all(opened.networks, pixels.to(opened.device)), chosen)
    result = reports.collect(config.figure, kinds, opened.names, images, pairs)
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
            "map": list(kinds),
            "samples": config.samples,
            "sigma": config.sigma,
            "limit": config.limit,
        },
        inputs=opened.inputs(),
        flags=opened.warnings(),
    )


def _chosen(opened: Opened, config: AttentionConfig) -> ImageSet:
    """The images to draw: those named, or the first ``--count`` that the rule takes."""
    import torch

    images, count = opened.images, config.count
    if config.index:
        if len(config.index) > MOST:
            raise InputError(f"--index: {len(config.index)} images; one figure shows {MOST} at most")
        place = {number: position for position, number in enumerate(images.indices.tolist())}
        missing = [number for number in config.index if number not in place]
        if missing:
            known = f"the {len(images)} images taken of {images.ref}"
            raise InputError(f"--index {missing[0]}: not among {known}, whose indices are 0 to {max(place)}")
        return images.subset(torch.tensor([place[number] for number in config.index]))
    if config.pick == "first":
        return images.subset(torch.arange(min(count, len(images))))
    found: list[int] = []
    for start in range(0, len(images), config.batch_size):
        rows = _fits(opened.networks, images, slice(start, start + config.batch_size), config.pick, opened.device)
        found += (rows.nonzero().squeeze(1) + start).tolist()
        if len(found) >= count:
            break
    if not found:
        raise InputError(f"--pick {config.pick}: no image of {images.ref} fits; choose another rule or --index")
    return images.subset(torch.tensor(found[:count]))


def _fits(networks: list[Network], images: ImageSet, part: slice, pick: str, device: str) -> Tensor:
    """(N,) bool: all models right, all wrong, or some of each."""
    import torch

    from advkit.tasks.prediction import predict
    from advkit.tasks.task import task_of

    task, (pixels, targets) = task_of(networks), images.batch(part)
    correct = torch.stack([task.correct(predict([network], pixels.to(device)).cpu(), targets) for network in networks])
    if pick == "all-correct":
        return correct.all(0)
    return ~correct.any(0) if pick == "all-wrong" else correct.any(0) & ~correct.all(0)


def _panel(name: str, network: Network, chosen: ImageSet, config: AttentionConfig, device: str) -> Panel:
    """One model's maps of the chosen images, and what it predicts."""
    import torch

    from advkit.data.canvas import cut_to_size
    from advkit.figures.attention import Panel
    from advkit.tasks.prediction import predict
    from advkit.tasks.task import task_of

    task, (pixels, targets) = task_of([network]), chosen.batch(slice(None))
    # Images of many sizes one by one: what lies beyond their edges is in no map.
    groups = [slice(k, k + 1) for k in range(len(pixels))] if task.has_places else [slice(None)]
    maps: dict[str, list[Tensor]] = {kind: [] for kind in config.kinds}
    for rows in groups:
        images = torch.stack(cut_to_size(pixels[rows], pixels[rows]))
        found = _maps(network, images.to(device), targets[rows].to(device), chosen.indices[rows], config)
        for kind, own in found.items():
            maps[kind] += own.unbind(0)
    predicted = predict([network], pixels.to(device)).cpu()
    captions = task.captions(predicted, targets, chosen.class_names)
    return Panel(name, captions, task.correct(predicted, targets).tolist(), maps, task.found(predicted, targets))


def _maps(
    network: Network, pixels: Tensor, targets: Tensor, indices: Tensor, config: AttentionConfig
) -> dict[str, Tensor]:
    """(N, H, W) maps of each kind."""
    from advkit.figures import saliency
    from advkit.models.feature_layers import last_spatial

    maps: dict[str, Tensor] = {}
    if "saliency" in config.kinds:
        maps["saliency"] = saliency.smoothgrad(
            network,
            pixels,
            targets,
            indices=indices.to(pixels.device),
            samples=config.samples,
            sigma=config.sigma,
            seed=config.seed,
        )
    if "grad-cam" in config.kinds:
        _, channels, height, width = pixels.shape
        layer = last_spatial(network, (channels, height, width))
        maps["grad-cam"] = saliency.grad_cam(network, pixels, targets, layer=layer)
    return maps


app.command("attention", short_help="Draw saliency and Grad-CAM of the same images.")(
    attention := command(AttentionConfig, run)
)
