"""Average precision from ranked true and false predictions: COCO's, for weighted images too, and PASCAL VOC's two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
_RECALLS = np.linspace(0.0, 1.0, 101)
# x of n objects reach the j-th recall where 100 x >= j n, but for these j: as COCO rounds them, they lie a hair above
# j / 100, and x / n = j / 100 falls short.
_ABOVE = np.arange(101) / 100 < _RECALLS
_CHUNK = 1_000_000  # numbers in one array of a bootstrap


@dataclass(frozen=True)
class MatchedDetections:
    """What the predictions for a set of images came to: all that average precision asks.

    Attributes:
        images: N.
        image, label: (P,) int64, of each prediction, images in ascending order.
        score: (P,) float32.
        hit, neutral: (P, T) bool by overlap, COCO's rule: true predictions, and those neither true nor false.
        voc_hit, voc_neutral: (P,) bool by PASCAL VOC's rule at an overlap of 0.5.
        objects: (N, K) int64 numbers of objects that are asked for.
    """

    images: int
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    hit: np.ndarray
    neutral: np.ndarray
    voc_hit: np.ndarray
    voc_neutral: np.ndarray
    objects: np.ndarray

    def ranks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each class, and the places of its predictions from the best score down; ties in the order of images."""
        order = np.argsort(-self.score, kind="stable")
        order = order[np.argsort(self.label[order], kind="stable")]
        ends = np.searchsorted(self.label[order], np.arange(self.objects.shape[1] + 1))
        for label in range(self.objects.shape[1]):
            yield label, order[ends[label] : ends[label + 1]]


def joined(parts: Sequence[MatchedDetections]) -> MatchedDetections:
    """The images of several parts, at least one, one part after the other."""
    starts = np.cumsum([0, *(part.images for part in parts)])
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("label", "score", "hit", "neutral", "voc_hit", "voc_neutral", "objects")
    }
    image = np.concatenate([part.image + start for part, start in zip(parts, starts, strict=False)])
    return MatchedDetections(images=int(starts[-1]), image=image, **columns)


def weighted_ap(matched: MatchedDetections, weights: np.ndarray) -> np.ndarray:
    """Average precision by 101 recalls (Lin et al. 2014) where images count several times, as in a bootstrap.

    The same as of a set that holds each image so often, but sorted and matched once. Predictions of one image that
    share a score stay together for each copy of it.

    Args:
        matched: N images, K classes, T overlaps.
        weights: (R, N) int32, how often each image counts in each of R sets.

    Returns:
        (R, K, T) float64 in [0, 1], NaN where a set has no object of a class.
    """
    found = np.full((len(weights), matched.objects.shape[1], matched.hit.shape[1]), np.nan)
    for label, order in matched.ranks():
        if matched.objects[:, label].any():
            ranking = _Ranking(matched, label, order)
            rows = max(1, _CHUNK // max(1, len(order)))
            for start in range(0, len(weights), rows):
                found[start : start + rows, label] = ranking.average_precision(weights[start : start + rows])
    return found


class _Ranking:
    """One class: its predictions from the best score down. Precision is looked at where a hit is: it falls elsewhere.

    Attributes:
        objects: (N,) asked for in each image.
        images: (P,) images of the predictions.
        hits: (M,) ranks that are a hit at any overlap.
        by_overlap: at each overlap, places in ``hits``; images of the predictions that are neither true nor false;
            and how many of these come before each of the hits.
    """

    def __init__(self, matched: MatchedDetections, label: int, order: np.ndarray) -> None:
        hit, neutral = matched.hit[order], matched.neutral[order]
        self.objects = matched.objects[:, label].astype(np.float64)
        self.images = matched.image[order]
        self.hits = np.flatnonzero(hit.any(1))
        self.by_overlap = []
        for number in range(hit.shape[1]):
            here, aside = np.flatnonzero(hit[self.hits, number]), np.flatnonzero(neutral[:, number])
            self.by_overlap.append((here, self.images[aside], np.searchsorted(aside, self.hits[here])))

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """(R, T) for images that count ``weights`` (R, N) times."""
        objects = weights @ self.objects
        seen = np.cumsum(np.take(weights, self.images, axis=1), axis=1, dtype=np.int32)[:, self.hits]
        counts = np.take(weights, self.images[self.hits], axis=1)
        found = np.empty((len(weights), len(self.by_overlap)))
        for number, (here, aside, before) in enumerate(self.by_overlap):
            total = seen[:, here]
            if len(aside):  # as if they had not been predicted
                skipped = np.zeros((len(weights), len(aside) + 1), dtype=np.int32)
                np.cumsum(np.take(weights, aside, axis=1), axis=1, out=skipped[:, 1:])
                total -= skipped[:, before]
            true = np.cumsum(counts[:, here], axis=1, dtype=np.int32)
            found[:, number] = _interpolated(true, total, objects)
        found[objects == 0] = np.nan
        return found


def _interpolated(true: np.ndarray, total: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) mean precision over 101 recalls, from true and all predictions (R, M) down to each hit."""
    precision = true / np.maximum(total, 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    percent = true * 100.0
    percent /= np.maximum(objects, 1)[:, None]  # a whole number exactly where the division leaves no rest
    whole = percent.astype(np.int32)
    reached = whole + 1 - (_ABOVE[whole] & (percent == whole))
    reached[:, 1:] -= reached[:, :-1].copy()
    return np.asarray(np.einsum("rm,rm->r", envelope, reached) / len(_RECALLS))


def voc_ap(true: np.ndarray, neutral: np.ndarray, objects: int) -> tuple[float, float]:
    """Average precision of one class by PASCAL VOC: of 2007, by 11 recalls, and from 2010 on, the area.

    Args:
        true, neutral: (P,) bool, from the best score down: true, and neither true nor false.
        objects: number of objects that are asked for, at least 1.
    """
    hits = np.cumsum(true)[~neutral]
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(10 * hits, objects * np.arange(11))  # whole numbers: 3 of 10 reach 0.3
    eleven = np.append(envelope, 0.0)[places].mean()
    area = (envelope * np.diff(hits, prepend=0)).sum() / objects
    return float(eleven), float(area)
