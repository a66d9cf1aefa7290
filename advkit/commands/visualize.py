"""``advkit visualize``: pictures of what networks attend to, and of their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from advkit.commands.checks import check_range, choices
from advkit.commands.config import command
from advkit.commands.loading import names_of, open_all, pick_device
from advkit.commands.visualize_features import features
from advkit.commands.visualize_options import PickOptions, check_pick, chosen_images
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.images import ImageSet
    from advkit.figures.attention import Panel
    from advkit.models.network import Network

app = typer.Typer(help="Draw what networks attend to, and their features.", rich_markup_mode=None)

MAPS = ("saliency", "grad-cam")


@app.callback()
def visualize() -> None:
    """Draw what networks attend to, and their features."""


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(PickOptions):
    """The options of ``visualize attention``."""

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
    check_pick(config)
    check_range("sigma", config.sigma, 0.0, 1.0)
    if "saliency" not in config.kinds:
        config.refuse(("samples", "sigma"), "does nothing without saliency in --map; leave it out")


def run(config: AttentionConfig) -> int:
    """The same images through every MODEL: smoothed input gradients and Grad-CAM on one colour scale."""
    clock = Clock()
    check(config)
    kinds = config.kinds
    names_of(config.models)
    opened = open_all(config, config.models, pick_device(config.device))
    chosen = chosen_images(opened, config)
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
app.command("features", short_help="Draw images rebuilt from features, and what scores call for.")(features)
