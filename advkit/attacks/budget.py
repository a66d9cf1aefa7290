"""The ball that a perturbation must stay in, and steps, starts and rounding inside it.

Perturbations are float32 tensors (N, C, H, W) in units of pixels in [0, 1]; norms are taken over each image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advkit.attacks import l1_ball
from advkit.data import canvas, counter_rng
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm, per_image

LEVELS = 255.0
_SLACK = 1e-6  # relative, of a radius: 255/255 may have become 1.0000001 on its way through another tool


def parse_eps(text: str, what: str = "eps") -> float:
    """``8/255`` or ``0.03`` as a float.

    Raises:
        InputError: not a number, negative, or over 1 in Linf units (a likely forgotten ``/255``).
    """
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"--{what} {text}: not a number; write 8/255 or 0.03") from error
    if not 0.0 <= value < float("inf"):
        raise InputError(f"--{what} {text}: must be a finite number, 0 or more")
    return value


def check_eps(eps: float, norm: Norm, text: str, size: tuple[int, int, int] | None = None, what: str = "eps") -> None:
    """Refuse a radius that covers more than all images (by more than 1e-6).

    That is over 1 in Linf, over sqrt(C H W) in L2, over C H W in L1.

    Args:
        eps: the radius.
        norm: its norm.
        text: what the user wrote.
        size: (C, H, W) of the images; without it an L2 or L1 radius passes.
        what: the option.

    Raises:
        InputError: ``eps`` bounds nothing.
    """
    hint = "" if "/" in text or norm == "l1" else f"; did you mean {text}/255?"
    if norm == "linf" and eps > 1.0 + _SLACK:
        raise InputError(f"--{what} {text}: pixels lie in [0, 1], so this is no bound{hint}")
    if norm == "linf" or size is None:
        return
    widest = math.sqrt(math.prod(size)) if norm == "l2" else float(math.prod(size))
    if eps > widest * (1.0 + _SLACK):
        apart = f"no two images of {'x'.join(map(str, size))} are further apart than {widest:.4g}"
        raise InputError(f"--{what} {text}: {apart}, so this is no bound{hint}")


def project(perturbation: Tensor, images: Tensor, eps: float, norm: Norm) -> Tensor:
    """Nearest perturbation in the ball, then into the box: ``images + result`` lies in [0, 1].

    The second step only shrinks entries, so the result stays in the ball. In L1 it is the nearest in both at once,
    which those steps would miss by far.
    """
    if norm == "l1":
        return l1_ball.project(perturbation, images, eps)
    if norm == "linf":
        perturbation = perturbation.clamp(-eps, eps)
    else:
        length = flat_norm(canvas.where_pixels(perturbation, images), norm).clamp_min(1e-30)
        perturbation = perturbation * per_image((eps / length).clamp_max(1.0))
    return (images + perturbation).clamp(0.0, 1.0) - images


def ascent(gradient: Tensor, x: Tensor, length: float, norm: Norm) -> Tensor:
    """A step from ``x`` of ``length`` in ``norm`` up ``gradient``: the steepest, or in L1 a sparse one in the box."""
    if norm == "l1":
        return l1_ball.steepest_step(gradient, x, length)
    return length * steepest_ascent(gradient, norm)


def steepest_ascent(gradient: Tensor, norm: Norm) -> Tensor:
    """The unit step that gains most on a linear function: sign for Linf, g / ||g|| for L2; 0 where g is 0.

    Raises:
        ValueError: L1, where it is one entry, which the box may stop: see :func:`ascent`.
    """
    if norm == "l1":
        raise ValueError("l1: the box decides too; see budget.ascent")
    if norm == "linf":
        return gradient.sign()
    length = flat_norm(gradient, norm)
    scale = flat_norm(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny)
    unit = gradient / per_image(scale)
    return unit / per_image((length / scale).clamp_min(1e-30))


def random_start(images: Tensor, indices: Tensor, eps: float, norm: Norm, seed: int, restart: int) -> Tensor:
    """A perturbation drawn uniformly from the ball (cut by the box)."""
    size, stream = images[0].numel(), counter_rng.stream("random start", restart)
    if norm == "linf":
        drawn = (counter_rng.uniform(seed, indices, stream, size) * 2.0 - 1.0) * eps
    else:
        pixels = canvas.is_pixel(images).flatten(1).sum(1, keepdim=True) * images.shape[1]
        radius = counter_rng.uniform(seed, indices, counter_rng.stream("random radius", restart), 1) ** (1.0 / pixels)
        drawn = direction(images, indices, norm, seed, stream, size + 1) * radius * eps
    return project(drawn.view_as(images), images, eps, norm)


def noise(images: Tensor, indices: Tensor, eps: float | Tensor, norm: Norm, seed: int) -> Tensor:
    """Images moved by noise of full norm: random signs times eps, or in L2 and L1 a random direction of length eps.

    The control for an attack of the same budget: what it fools, any step of that size fools. ``eps`` is one radius, or
    (N,) of them.
    """
    size, stream = images[0].numel(), counter_rng.stream("noise")
    if isinstance(eps, Tensor):
        eps = per_image(eps)
    if norm == "linf":
        drawn = counter_rng.signs(seed, indices, stream, size)
    else:
        drawn = direction(images, indices, norm, seed, stream, size)
    return (images + drawn.view_as(images) * eps).clamp(0.0, 1.0)


def direction(images: Tensor, indices: Tensor, norm: Norm, seed: int, stream: int, count: int) -> Tensor:
    """(N, C H W) of L2 or L1 norm 1, in uniform directions of that ball; of ``count`` numbers drawn the first count."""
    size = images[0].numel()
    draw = counter_rng.normal if norm == "l2" else counter_rng.laplace
    drawn = draw(seed, indices, stream, count)[:, :size]
    drawn = canvas.where_pixels(drawn.view_as(images), images).flatten(1)
    return drawn / (drawn.norm(dim=1, keepdim=True) if norm == "l2" else drawn.abs().sum(1, keepdim=True))


def negated_perturbation(adversarial: Tensor, images: Tensor) -> Tensor:
    """The sign-flipped perturbation: ``images - (adversarial - images)``, cut to [0, 1]."""
    return (2.0 * images - adversarial).clamp(0.0, 1.0)


def quantize(adversarial: Tensor, images: Tensor, eps: float, norm: Norm) -> Tensor:
    """Round to the 256 levels of an 8-bit file without leaving the budget.

    Linf rounds to the nearest level whose distance to the clean pixel is at most eps. L2 rounds to nearest where that
    stays in the ball, and towards the clean image in the others. L1 rounds towards the clean image but for the entries
    nearest to their outer level, as many as the ball has room for.

    Returns:
        (N, C, H, W) uint8; 0 where there is no pixel, see :func:`from_levels`.

    Raises:
        InputError: the clean images are not 8-bit and eps leaves no level (or no image) in reach.
    """
    slack = 1e-4  # of a level: float32 keeps 8/255 * 255 to 1e-6
    pixels, clean = adversarial * LEVELS, images * LEVELS
    if norm == "linf":
        low = torch.ceil(clean - eps * LEVELS - slack).clamp_min(0.0)
        high = torch.floor(clean + eps * LEVELS + slack).clamp_max(LEVELS)
        if bool((low > high).any()):
            raise _no_level(eps)
        nearest = torch.minimum(torch.maximum(torch.round(pixels), low), high)
        return canvas.where_pixels(nearest, images).to(torch.uint8)
    if norm == "l1":
        within = l1_ball.round_within(pixels, clean, eps * LEVELS, slack)
        if within is None:
            raise _no_level(eps)
        return canvas.where_pixels(within.clamp(0.0, LEVELS), images).to(torch.uint8)
    rounded = torch.round(pixels)
    outside = flat_norm(canvas.where_pixels(rounded - clean, images), norm) > eps * LEVELS + slack
    if bool(outside.any()):
        inward = torch.where(pixels >= clean, torch.floor(pixels + slack), torch.ceil(pixels - slack))
        away = (inward - clean) * (pixels - clean) < 0  # a clean pixel between two levels
        inward = torch.where(away, torch.round(clean), inward)
        rounded = torch.where(per_image(outside), inward, rounded)
        if bool((flat_norm(canvas.where_pixels(rounded - clean, images), norm) > eps * LEVELS + slack * 10).any()):
            raise _no_level(eps)
    return canvas.where_pixels(rounded.clamp(0.0, LEVELS), images).to(torch.uint8)


def from_levels(levels: Tensor, images: Tensor) -> Tensor:
    """(N, C, H, W) float32 in [0, 1] of what :func:`quantize` made of ``images``; NaN where those have no pixel."""
    pixels = levels.float() / LEVELS
    if not bool(images[:, 0, -1, -1].isnan().any()):
        return pixels
    return torch.where(images.isnan(), canvas.NOWHERE, pixels)


def _no_level(eps: float) -> InputError:
    return InputError(f"--quantize: no 8-bit image lies within eps {eps:.6g} of a clean one; raise --eps or drop it")
