"""Which images the figures of ``advkit visualize`` show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from advkit.commands.checks import check_figure, check_outputs
from advkit.commands.loading import Opened
from advkit.commands.run_options import TestOptions
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.images import ImageSet
    from advkit.models.network import Network

MOST = 50  # images of one figure that still show anything


@dataclass(frozen=True, kw_only=True)
class PickOptions(TestOptions):
    """Of figures that show the same images through several models."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="[NAME=]MODEL...", help="Networks to look at.")]
    figure: Annotated[Path, typer.Option(metavar="FILE", help="The picture: .png, .svg or .pdf.")]
    index: Annotated[
        tuple[int, ...], typer.Option(min=0, metavar="I", help="This image of the split; repeatable.")
    ] = ()
    pick: Annotated[
        Literal["first", "all-correct", "disagree", "all-wrong"], typer.Option(help="Which images to take.")
    ] = "first"
    count: Annotated[int, typer.Option(min=1, max=MOST, help="Images that --pick takes.")] = 4


def check_pick(config: PickOptions) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: files that can't be written, options that would do nothing.
    """
    check_outputs(config, "figure", "report")
    check_figure("figure", config.figure)
    if config.index:
        config.refuse(("pick", "count"), "does nothing with --index, which names the images; leave it out")


def chosen_images(opened: Opened, config: PickOptions) -> ImageSet:
    """The images to draw: those named, or the first ``--count`` that the rule takes.

    Raises:
        InputError: an index that is not there, or a rule that no image fits.
    """
    import torch

    images, count = opened.images, config.count
    if config.index:
        if len(config.index) > MOST:
            raise InputError(f"--index: {len(config.index)} images; one figure shows {MOST} at most")
        place = {number: position for position, number in enumerate(images.indices.tolist())}
        missing = [number for number in config.index if number not in place]
        if missing:
            known = f"the {len(images)} images taken of {images.ref}, indices from {min(place)} to {max(place)}"
            raise InputError(f"--index {missing[0]}: not among {known}")
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
