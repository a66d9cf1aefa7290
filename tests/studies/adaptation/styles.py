"""Detections of a detector on images of many styles, matched at an overlap of 0.5, for gains.py to resample.

    python styles.py MODEL OUT.npz DATA...

The style of an image is its file's name up to the last underscore. An image's 50 best detections are kept.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from advkit.data import reference as data_reference
from advkit.metrics.mean_average_precision import MeanAveragePrecision
from advkit.models import reference as model_reference
from advkit.tasks.prediction import outputs_of

MOST = 50  # detections of an image
BATCH = 8


def main(model: str, out: str, *refs: str) -> None:
    """``image`` (P,) ascending, ``score`` (P,) float32, ``hit``, ``neutral`` (P,) bool, ``objects``, ``style`` (N,)."""
    network = model_reference.load(model)
    count = MeanAveragePrecision(1)
    styles: list[str] = []
    for ref in refs:
        images = data_reference.load(ref)
        if images.names is None:
            raise SystemExit(f"{ref}: its images have no file names, which tell the styles")
        styles += [name.rsplit("_", 1)[0] for name in images.names]
        for start in range(0, len(images), BATCH):
            pixels, targets = images.batch(slice(start, start + BATCH))
            with torch.no_grad():
                count.update(outputs_of([network], pixels).predictions(), targets)
    found = count.matched
    order = np.lexsort((-found.score, found.image))
    first = np.searchsorted(found.image[order], found.image[order])
    kept = order[np.arange(len(order)) - first < MOST]
    np.savez_compressed(
        out,
        image=found.image[kept].astype(np.int16),
        score=found.score[kept],
        hit=found.hit[kept, 0],
        neutral=found.neutral[kept, 0],
        objects=found.objects[:, 0].astype(np.int16),
        style=np.array(styles),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
