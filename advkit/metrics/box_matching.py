"""Which predicted box finds which object, by the rules of COCO and of PASCAL VOC; and which images are right.

Predictions are (N, D, 6): x0, y0, x1, y1, score and class, class -1 for none. Targets are (N, B, 6), see
:mod:`advkit.data.boxes`. An image's matches depend on no other image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advkit.data import boxes

COLUMNS = 6
SCORE, LABEL = 4, 5
NO_PREDICTION = -1.0


def not_finite(predictions: Tensor) -> Tensor:
    """(N, D) bool: rows of ``predictions`` (N, D, 6) with NaN or infinity, which predict nothing."""
    return ~torch.isfinite(predictions).all(2)


def ranked(predictions: Tensor) -> Tensor:
    """``predictions`` (N, D, 6), in each image the best score first, ties as they stand, rows of nothing last.

    Rows that are not finite become rows of nothing.
    """
    nothing = not_finite(predictions) | (predictions[..., LABEL] < 0)
    empty = predictions.new_tensor([0.0, 0.0, 0.0, 0.0, 0.0, NO_PREDICTION])
    cleaned = torch.where(nothing[..., None], empty, predictions)
    key = torch.where(nothing, float("-inf"), cleaned[..., SCORE])
    order = key.argsort(dim=1, descending=True, stable=True)
    return cleaned.gather(1, order[..., None].expand_as(cleaned))


def overlap(predictions: Tensor, targets: Tensor, *, crowds: bool) -> Tensor:
    """(N, D, B) float64: intersection over union of each prediction with each object of its class, -1 for others.

    Args:
        predictions: (N, D, 6), finite.
        targets: (N, B, 6).
        crowds: take a difficult object for a crowd, as COCO does: the overlap is then the share of the prediction
            that lies within it.
    """
    found, objects = predictions[:, :, None].double(), targets[:, None].double()
    sides = torch.minimum(found[..., 2:4], objects[..., 2:4]) - torch.maximum(found[..., :2], objects[..., :2])
    shared = sides.clamp_(min=0).prod(-1)
    area = (found[..., 2:4] - found[..., :2]).prod(-1)
    union = area + (objects[..., 2:4] - objects[..., :2]).prod(-1) - shared
    if crowds:
        union = torch.where(objects[..., boxes.DIFFICULT] != 0, area, union)
    share = torch.where(shared > 0, shared / union, 0.0)  # empty and inverted boxes meet nothing
    same = (found[..., LABEL] == objects[..., boxes.LABEL]) & (objects[..., boxes.LABEL] >= 0)
    return torch.where(same, share, -1.0)


def coco_match(predictions: Tensor, targets: Tensor, thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Greedy matching of COCO (Lin et al. 2014): the best score chooses first, the free object it overlaps most.

    Args:
        predictions: (N, D, 6), see :func:`ranked`.
        targets: (N, B, 6).
        thresholds: T overlaps, each reached at least.

    Returns:
        (N, D, T) int64, the object that each prediction finds, -1 for none; and (N, D, T) bool, predictions that are
        neither true nor false: they find none, but overlap a difficult object, taken for a crowd.
    """
    every = overlap(predictions, targets, crowds=True)
    difficult = (targets[..., boxes.DIFFICULT] != 0)[:, None]
    least = torch.tensor([min(t, 1 - 1e-10) for t in thresholds], dtype=torch.float64, device=every.device)
    near_crowd = torch.where(difficult, every, -1.0).amax(2)[..., None] >= least
    # Of objects that overlap equally the reference takes the last, and max takes the first: hence from the last on.
    asked = torch.where(difficult, -1.0, every).flip(2)
    (images, most, count), steps = asked.shape, torch.arange(asked.shape[2], device=asked.device)
    taken = torch.zeros(images, len(least), count, dtype=torch.bool, device=asked.device)
    matched = torch.full((images, most, len(least)), -1, dtype=torch.int64, device=asked.device)
    for place in range(most):
        best, which = torch.where(taken, -1.0, asked[:, place, None]).max(2)
        hit = best >= least
        taken |= (steps == which[..., None]) & hit[..., None]
        matched[:, place] = torch.where(hit, count - 1 - which, -1)
    return matched, near_crowd & (matched < 0)


def voc_match(predictions: Tensor, targets: Tensor, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Matching of PASCAL VOC (Everingham et al. 2010): each prediction is for the one object that it overlaps most.

    The first for an object is true and later ones are false; any number for a difficult object are neither.

    Args:
        predictions: (N, D, 6), see :func:`ranked`.
        targets: (N, B, 6).
        threshold: overlap, reached at least.

    Returns:
        (N, D) bool, true ones; and (N, D) bool, those that are neither true nor false.
    """
    best, which = overlap(predictions, targets, crowds=False).max(2)
    hit = best >= threshold
    neutral = hit & (targets[..., boxes.DIFFICULT] != 0).gather(1, which)
    claims = (which[..., None] == torch.arange(targets.shape[1], device=which.device)) & hit[..., None]
    first = claims.cumsum(1).gather(2, which[..., None]).squeeze(2) == 1
    return hit & first & ~neutral, neutral


def objects_found(predictions: Tensor, targets: Tensor, score: float = 0.5, iou: float = 0.5) -> Tensor:
    """(N, B) bool: the object has a prediction of its own, of its class; see :func:`coco_match`.

    Difficult objects and rows without an object are False: nobody asked for them.

    Args:
        predictions: (N, D, 6), in any order.
        targets: (N, B, 6).
        score: least score of a prediction that counts.
        iou: least overlap.
    """
    matched, _ = coco_match(_confident(predictions, score), targets, [iou])
    return (matched == torch.arange(targets.shape[1], device=matched.device)).any(1)


def images_right(predictions: Tensor, targets: Tensor, score: float = 0.5, iou: float = 0.5) -> Tensor:
    """(N,) bool: every object that is asked for is found; where none is, nothing is predicted.

    Difficult objects are neither asked for, nor is it wrong to predict them. Arguments as :func:`objects_found`.
    """
    chosen = _confident(predictions, score)
    matched, neutral = coco_match(chosen, targets, [iou])
    found = (matched == torch.arange(targets.shape[1], device=matched.device)).any(1)
    asked = boxes.is_object(targets) & (targets[..., boxes.DIFFICULT] == 0)
    silent = ((chosen[..., LABEL] < 0) | neutral[..., 0]).all(1)
    return torch.where(asked.any(1), (found | ~asked).all(1), silent)


def _confident(predictions: Tensor, score: float) -> Tensor:
    """(N, D', 6) :func:`ranked` predictions of at least ``score``, D' the most in one image, at least 1."""
    best = ranked(predictions)
    chosen = (best[..., SCORE] >= score) & (best[..., LABEL] >= 0)
    best = torch.where(chosen[..., None], best, best.new_tensor([0.0, 0.0, 0.0, 0.0, 0.0, NO_PREDICTION]))
    most = int(chosen.sum(1).amax()) if chosen.numel() else 0
    return best[:, : max(1, most)]
