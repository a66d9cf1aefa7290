"""The L1 ball cut by the box of all images: nearest points, steepest steps, and the 8-bit grid inside it.

Where an image is near black or white the box cuts most of an L1 ball away: what is right for the ball alone is far from
right for what is left of it (Croce and Hein 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import canvas
from advkit.metrics.norms import flat_norm, per_image

_INSIDE = 1.0 - 1e-6  # of the radius: a sum of many roundings stays below it
_SPARSITY = 100  # one of so many entries of an image shares a step, as in Tramèr and Boneh 2019
_ATTEMPTS = 8  # to stay inside, each shrinking more
_LEVELS = 255.0  # of 8 bits
_ON_GRID = 1e-3  # of a level: pixels that were 8-bit ones lie this near


def project(perturbation: Tensor, images: Tensor, eps: float | Tensor) -> Tensor:
    """The nearest of all perturbations of L1 norm ``eps`` or less for which ``images + result`` lies in [0, 1].

    Every entry shrinks by the same amount, but for those that the box would cut deeper anyway (Croce and Hein 2021).
    The norm falls piecewise linearly with that amount; its kinks are sorted, and the piece that passes ``eps`` solved.

    Args:
        perturbation, images: (N, C, H, W), ``images`` in [0, 1].
        eps: one radius, or (N,) of them; infinite for the box alone.
    """
    wanted = canvas.where_pixels(perturbation, images)
    size = wanted.abs().flatten(1)
    room = canvas.where_pixels(torch.where(wanted < 0, images, 1.0 - images), images).flatten(1).clamp_min(0.0)
    radius = torch.as_tensor(eps, dtype=size.dtype, device=size.device).expand(len(size))[:, None]
    kept = torch.minimum(size, room)
    over = (kept.sum(1, keepdim=True) > radius).squeeze(1)
    if bool(over.any()):
        size, room, radius = size[over], room[over], radius[over]
        less = torch.minimum((size - _shrinkage(size, room, radius)).clamp_min(0.0), room)
        length = less.sum(1, keepdim=True).clamp_min(torch.finfo(less.dtype).tiny)
        kept = kept.clone()
        kept[over] = less * (radius * _INSIDE / length).clamp_max(1.0)
    found = torch.where(wanted < 0, -kept.view_as(wanted), kept.view_as(wanted))
    return _rounded_inside(found, images, torch.as_tensor(eps, dtype=torch.float64, device=images.device))


def _rounded_inside(found: Tensor, images: Tensor, eps: Tensor) -> Tensor:
    """``found`` as float32 pixels hold it, shrunk until its norm is ``eps`` or less.

    Entries of a projection differ from each other by one number, so that all of them may round the same way.
    """
    result = (images + found).clamp(0.0, 1.0) - images
    radius = eps.expand(len(images))
    for attempt in range(_ATTEMPTS):
        length = canvas.where_pixels(result, images).abs().flatten(1).sum(1, dtype=torch.float64)
        beyond = length > radius
        if not bool(beyond.any()):
            break
        factor = (radius[beyond] / length[beyond]).clamp_max(1.0) * _INSIDE ** (1 + 4**attempt)
        result = result.clone()
        moved = images[beyond] + result[beyond] * per_image(factor.to(result.dtype))
        result[beyond] = moved.clamp(0.0, 1.0) - images[beyond]
    return result


def _shrinkage(size: Tensor, room: Tensor, radius: Tensor) -> Tensor:
    """(N, 1) t for which ``min(max(size - t, 0), room)`` (N, D) sums to ``radius`` (N, 1), which t = 0 passes."""
    leaves_edge = (size - room).clamp_min(0.0)
    kinks, order = torch.cat([leaves_edge, size], 1).sort(dim=1, stable=True)
    shrinking = torch.where(order < size.shape[1], 1.0, -1.0).to(torch.float64).cumsum(1)  # entries, beyond each kink
    falls = (shrinking[:, :-1] * kinks.double().diff(dim=1)).cumsum(1)
    total = torch.minimum(size, room).double().sum(1, keepdim=True)
    sums = torch.cat([total, total - falls], 1)  # at each kink
    piece = ((sums >= radius).sum(1, keepdim=True) - 1).clamp_min(0)
    rest = (sums.gather(1, piece) - radius).clamp_min(0.0)
    return (kinks.gather(1, piece) + rest / shrinking.gather(1, piece).clamp_min(1.0)).to(size.dtype)


def steepest_step(gradient: Tensor, x: Tensor, length: float) -> Tensor:
    """The step from ``x`` of L1 length ``length`` or less that gains most on a linear function, spread a little.

    Without a bound on its entries it would move one or few of them to the edge of the box, whatever a network is like
    there. A hundredth of the entries, at least one, therefore shares ``length`` evenly (Tramèr and Boneh 2019, sparse
    L1 descent); what the box leaves of a share goes to the entry with the next largest slope.

    Args:
        gradient, x: (N, C, H, W), ``x`` in [0, 1].
        length: 0 or more.
    """
    slope = canvas.where_pixels(gradient, x)
    room = torch.where(slope < 0, x, torch.where(slope > 0, 1.0 - x, torch.zeros_like(x)))
    room = canvas.where_pixels(room, x).flatten(1).clamp_min(0.0)
    entries = canvas.is_pixel(x).flatten(1).sum(1, keepdim=True) * x.shape[1]
    share = length / (entries // _SPARSITY).clamp_min(1).to(x.dtype)
    taken = largest_first(slope.abs().flatten(1), torch.minimum(room, share), torch.full_like(share, length))
    return slope.sign() * taken.view_as(slope)


def largest_first(weight: Tensor, amount: Tensor, total: Tensor) -> Tensor:
    """(N, D) of ``amount`` (N, D), in the order of falling ``weight``, as much as makes ``total`` (N, 1)."""
    order = weight.sort(dim=1, descending=True, stable=True).indices
    sorted_amount = amount.gather(1, order).double()
    before = sorted_amount.cumsum(1) - sorted_amount
    taken = torch.minimum((total.double() - before).clamp_min(0.0), sorted_amount)
    return torch.zeros_like(amount).scatter(1, order, taken.to(amount.dtype))


def round_within(pixels: Tensor, clean: Tensor, budget: float, slack: float) -> Tensor | None:
    """Whole levels near ``pixels`` and no further than ``budget`` from ``clean``; None where there are none.

    What ``clean`` itself is off the levels is taken from the budget first. Entries go to the level towards the clean
    one; of those whose nearest level is the outer, the ones that are nearest to it then go there, while the budget
    lasts.

    Args:
        pixels, clean: (N, C, H, W) in levels of 8 bits.
        budget: L1 norm in levels.
        slack: of a level, for what float32 makes of eps.
    """
    level = torch.round(clean)
    off = (clean - level).abs()
    off = canvas.where_pixels(torch.where(off < _ON_GRID, 0.0, off), clean)
    left = budget - flat_norm(off, "l1")
    if bool((left < -slack).any()):
        return None
    wanted = canvas.where_pixels(pixels - level, clean)
    wanted = torch.where(wanted.abs() < _ON_GRID, 0.0, wanted)
    if bool((flat_norm(wanted, "l1") > left).any()):
        wanted = project(wanted / _LEVELS, level / _LEVELS, left.clamp_min(0.0) / _LEVELS) * _LEVELS
        wanted = canvas.where_pixels(wanted, clean)
    size = wanted.abs().flatten(1)
    inward = torch.floor(size + slack)
    short = torch.where(torch.round(size) > inward, size - inward, 0.0)
    rank = short.sort(dim=1, descending=True, stable=True).indices.argsort(dim=1)
    outward = (short > 0) & (rank < torch.floor(left + slack - inward.sum(1))[:, None])
    return level + wanted.sign() * (inward + outward.to(size.dtype)).view_as(wanted)


def ranked_signs(gradient: Tensor, count: Tensor) -> Tensor:
    """Signs of the ``count`` (N,) largest entries of each image of ``gradient``, and of their equals, over how many.

    The step of unit L1 length that L1-APGD takes (Croce and Hein 2021); 0 where the gradient is.
    """
    slope = gradient.abs().flatten(1)
    least = slope.sort(dim=1, descending=True).values.gather(1, (count[:, None] - 1).clamp(0, slope.shape[1] - 1))
    signs = torch.where(slope >= least, gradient.flatten(1).sign(), 0.0)
    return (signs / flat_norm(signs, "l1").clamp_min(1.0)[:, None]).view_as(gradient)


def entries_moved(x: Tensor, images: Tensor) -> Tensor:
    """(N,) int64: entries in which ``x`` differs from ``images``."""
    return (canvas.where_pixels(x - images, images).flatten(1) != 0).sum(1)
