"""Pictures made by a network: images rebuilt from their features, and what a score calls for.

Both take plain gradient steps, with no idea of what images look like, so that what is seen is the network's own. One
image at a time: nothing depends on batch-mates. Networks should be in evaluation mode; nothing of them changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.attacks.budget import project, steepest_ascent
from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.models.layer_outputs import LayerOutputs
from advkit.models.network import Network
from advkit.tasks.task import task_of

NOISE_MEAN, NOISE_STD = 0.5, 0.05  # faint, since what no feature sees of it stays in the picture
# Lengths, root mean square over the pixels. 200 falling steps reach as far as 1, across all of [0, 1]. In a wider ball
# every value ends at 0 or 1, and shapes drown (CIFAR-10, normally and adversarially trained ResNet-8).
STEP, BALL = 0.01, 0.1


@dataclass(frozen=True)
class Made:
    """One picture.

    Attributes:
        picture: (1, C, h, w) in [0, 1].
        values: what was lowered or raised, before the first step and after each, the last that of ``picture``.
    """

    picture: Tensor
    values: list[float]


def noise(image: Tensor, index: int, seed: int) -> Tensor:
    """Faint grey noise of the shape of ``image`` (1, C, h, w), of the seed and the image's identity, in [0, 1]."""
    place = torch.tensor([index], dtype=torch.int64, device=image.device)
    drawn = counter_rng.normal(seed, place, counter_rng.stream("feature noise"), image.numel())
    return (NOISE_MEAN + NOISE_STD * drawn.view_as(image)).clamp(0.0, 1.0)


def invert(features: LayerOutputs, image: Tensor, start: Tensor, *, steps: int, step_size: float | None = None) -> Made:
    """The picture whose features are those of ``image`` (Mahendran and Vedaldi 2015; Engstrom et al. 2019).

    Lowers the squared distance of the features, divided by the squared length of those of ``image``.

    Args:
        features: of the network.
        image: (1, C, h, w) in [0, 1].
        start: likewise; where to begin.
        steps, step_size: see :func:`climb`.

    Raises:
        InputError: features that are all 0, or not finite: a distance from them has no scale.
    """
    with torch.no_grad():
        wanted = features(image)
    scale = wanted.double().square().sum()
    if not 0.0 < float(scale) < float("inf"):
        told = f"{features.ref}: layer {features.layer} puts out nothing but 0 for an image, or no finite numbers"
        raise InputError(f"{told}; name another")

    def closeness(picture: Tensor) -> Tensor:
        return -((features(picture) - wanted).square().sum(1) / scale.float())

    what = f"{features.ref}: distance of the outputs of layer {features.layer}"
    made = climb(closeness, start, what, steps=steps, step_size=step_size)
    return Made(made.picture, [-value for value in made.values])


def maximise(
    network: Network,
    target: Tensor,
    start: Tensor,
    *,
    steps: int,
    step_size: float | None = None,
    eps: float | None = None,
) -> Made:
    """The picture that speaks most for ``target`` (Erhan et al. 2009; Santurkar et al. 2019).

    Raises the task's activation: a class's logit, or the log of the score of the objects' boxes.

    Args:
        network: images to raw outputs.
        target: (1, ...) what to call for.
        start: (1, C, h, w) in [0, 1].
        steps, step_size: see :func:`climb`.
        eps: L2 radius of the ball around ``start``; without one, 0.1 times the root of the number of values.

    Raises:
        InputError: a score that is not finite.
    """
    task = task_of([network])
    return climb(
        lambda picture: task.activation(task.outputs([network], picture), target),
        start,
        f"{network.spec.ref}: score",
        steps=steps,
        step_size=step_size,
        eps=BALL * math.sqrt(start.numel()) if eps is None else eps,
    )


def climb(
    objective: Callable[[Tensor], Tensor],
    start: Tensor,
    what: str,
    *,
    steps: int,
    step_size: float | None = None,
    eps: float = math.inf,
) -> Made:
    """Raise ``objective`` by steps along the gradient, in the L2 ball around ``start`` and in [0, 1].

    Steps have a length whatever the gradient's, which falls evenly to 0, so that the end is no swing around it.

    Args:
        objective: (1, C, h, w) to (1,).
        start: (1, C, h, w) in [0, 1].
        what: the model and its objective, for a message.
        steps: how many.
        step_size: L2 length of the first; without one, 0.01 times the root of the number of values in the image.
        eps: L2 radius of the ball.

    Raises:
        InputError: an objective that is not finite.
    """
    length = STEP * math.sqrt(start.numel()) if step_size is None else step_size
    picture, values = start, []
    for step in range(steps):
        point = picture.detach().requires_grad_()
        with torch.enable_grad():
            value = objective(point)
            (gradient,) = torch.autograd.grad(value.sum(), point)
        values.append(float(value.detach()))
        move = steepest_ascent(gradient, "l2") * (length * (1.0 - step / steps))
        picture = (start + project(point.detach() + move - start, start, eps, "l2")).clamp(0.0, 1.0)
    with torch.no_grad():
        values.append(float(objective(picture)))
    if not all(map(math.isfinite, values)):
        raise InputError(f"{what} is not finite for a picture in [0, 1]; leave this model out")
    return Made(picture.detach(), values)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two pictures' values, in [-1, 1]; NaN where one is flat."""
    rows = [x.detach().cpu().double().flatten() for x in (a, b)]
    x, y = (row - row.mean() for row in rows)
    lengths = x.norm() * y.norm()
    return float((x @ y / lengths).clamp(-1.0, 1.0)) if float(lengths) > 0 else math.nan
