"""Where a network looks: maps of attention over the pixels, and how much two such maps agree.

All functions are pure: they change no weight, no buffer, no mode. Networks take images in [0, 1] and should
be in eval mode; with batch-norm in train mode the images of a batch would influence each other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from advkit.data import counter_rng
from advkit.tasks.task import task_of


def smoothgrad(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    indices: Tensor,
    samples: int = 16,
    sigma: float = 0.1,
    seed: int = 0,
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017): the gradient of a target's score, averaged over noisy copies of the image.

    The score is the task's: a class's own logit.

    The average of the signed gradients is taken first, then the absolute value, then the sum over the channels. The
    noise is not clipped to [0, 1], as in the paper. It belongs to (``seed``, image index): batch size and order don't
    matter.

    Args:
        network: images to raw outputs.
        images: (N, C, H, W) float in [0, 1].
        targets: (N, ...) what to explain for each image: classes (N,) int64.
        indices: (N,) int64, positions of the images in their data set.
        samples: noisy copies for each image, at least 1; the paper sees little gain beyond 50.
        sigma: standard deviation of the noise in pixels of [0, 1]; the paper advises 0.1 to 0.2. 0: plain gradient.
        seed: of the noise.

    Returns:
        (N, H, W), 0 or more.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}; at least 1")
    task, total = task_of([network]), torch.zeros_like(images)
    for sample in range(samples):
        noise = counter_rng.normal(seed, indices, counter_rng.stream("smoothgrad", sample), images[0].numel())
        point = (images + sigma * noise.view_as(images)).detach().requires_grad_()
        with torch.enable_grad():
            score = task.score(task.outputs([network], point), targets)
            (gradient,) = torch.autograd.grad(score.sum(), point)
        total += gradient
    return (total / samples).abs().sum(dim=1)


def grad_cam(network: nn.Module, images: Tensor, targets: Tensor, *, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): the channels of a map, weighted by the mean gradient of the target's score.

    Args:
        network: images to raw outputs.
        images: (N, C, H, W) float in [0, 1].
        targets: (N, ...) what to explain for each image: classes (N,) int64.
        layer: module inside ``network`` whose output is a map (N, D, h, w), or several by name, usually
            :func:`advkit.models.feature_layers.last_spatial`; when called several times, its last output counts. Of
            several maps, a detector's levels, each gives its own heat, enlarged and added up; the gradient is then not
            averaged over the places but taken at each (HiResCAM, Draelos and Carin 2020), as what a detector says of
            an object depends on few of them.

    Returns:
        (N, H, W), 0 or more, bilinearly enlarged from (h, w). All zero for an image in which nothing speaks for the
        target.

    Raises:
        ValueError: ``layer`` was not called, gave no map, or the outputs don't depend on it.
    """
    maps: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor | dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        levels = output if isinstance(output, dict) else {"": output}
        maps[:] = levels.values()
        copies = {name: level.clone() for name, level in levels.items()}
        return copies if isinstance(output, dict) else copies[""]  # what works in place must not change what was kept

    task = task_of([network])
    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():  # the images need a gradient so that frozen networks have a graph
            outputs = task.outputs([network], images.detach().requires_grad_())
    finally:
        hook.remove()
    if not maps or any(level.ndim != 4 for level in maps):
        raise ValueError("Grad-CAM needs a layer of the network that puts out a map (N, D, h, w)")
    score = task.score(outputs, targets).sum()
    gradients = torch.autograd.grad(score, maps, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        raise ValueError("Grad-CAM's layer has no influence on the outputs")
    total = images.new_zeros(len(images), 1, *images.shape[-2:])
    for level, gradient in zip(maps, gradients, strict=True):
        if gradient is not None:
            weights = gradient.mean(dim=(2, 3), keepdim=True) if len(maps) == 1 else gradient
            heat = (weights * level.detach()).sum(dim=1, keepdim=True).relu()
            total += functional.interpolate(heat, size=images.shape[-2:], mode="bilinear", align_corners=False)
    return total[:, 0]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N,) cosine of the rows; NaN where one is zero."""
    a, b = (x / x.abs().amax(dim=1, keepdim=True) for x in (a, b))  # tiny gradients must not underflow when squared
    lengths: Tensor = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return ((a * b).sum(1) / lengths).clamp(-1.0, 1.0)


def ranks(values: Tensor) -> Tensor:
    """(N, P) float64 ranks from 1 within each row; equal values share the mean of their ranks."""
    ordered = values.sort(dim=1).values.contiguous()
    below = torch.searchsorted(ordered, values.contiguous(), side="left")
    upto = torch.searchsorted(ordered, values.contiguous(), side="right")
    return (below + upto + 1).double() / 2


def _rank_correlation(a: Tensor, b: Tensor) -> Tensor:
    """(N,) Spearman's correlation of the rows; NaN where one is constant."""
    centred = [r - r.mean(dim=1, keepdim=True) for r in (ranks(a), ranks(b))]
    return _cosine(*centred)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": _cosine, "rank_correlation": _rank_correlation}


def agreement(a: Tensor, b: Tensor) -> dict[str, Tensor]:
    """How alike two models' maps of the same images are.

    Maps of attention are nowhere negative, so unrelated ones still have a **cosine** far above 0 (0.64 for two maps of
    independent half-normal values); their **rank correlation** (Spearman) is about 0.

    Args:
        a: (N, H, W), of one model.
        b: (N, H, W), of the other.

    Returns:
        ``cosine`` and ``rank_correlation``, each (N,) float64 in [-1, 1]; NaN where a map is all zero, or all equal.
    """
    if a.shape != b.shape:
        raise ValueError(f"maps of {tuple(a.shape)} and {tuple(b.shape)} can't be compared")
    flat = [x.detach().cpu().double().flatten(1) for x in (a, b)]
    return {name: measure(*flat) for name, measure in MEASURES.items()}
