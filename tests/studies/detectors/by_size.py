"""Average precision at an overlap of 0.5 by the size of the objects, in pixels of the images.

    python by_size.py MODEL DATA

Objects of other sizes are neither asked for nor false to predict; other predictions that miss are false at every size.
"""

from __future__ import annotations

import sys

import torch

from advkit.data import boxes
from advkit.data import reference as data_reference
from advkit.metrics.mean_average_precision import MeanAveragePrecision
from advkit.models import reference as model_reference
from advkit.tasks.prediction import outputs_of

EDGES = (0.0, 32.0, 96.0, float("inf"))  # square roots of COCO's areas
BATCH = 8


def main(model: str, ref: str) -> None:
    """Print a line for each range of sizes."""
    network, images = model_reference.load(model), data_reference.load(ref)
    counts = [MeanAveragePrecision(network.spec.num_classes) for _ in EDGES[1:]]
    for start in range(0, len(images), BATCH):
        pixels, targets = images.batch(slice(start, start + BATCH))
        with torch.no_grad():
            predictions = outputs_of([network], pixels).predictions()
        sides = targets[..., 2:4] - targets[..., :2]
        side = sides.prod(2).clamp_min(0.0).sqrt()
        for count, low, high in zip(counts, EDGES, EDGES[1:], strict=False):
            asked = targets.clone()
            asked[..., boxes.DIFFICULT] = torch.where((side >= low) & (side < high), asked[..., boxes.DIFFICULT], 1.0)
            count.update(predictions, asked)
    for count, low, high in zip(counts, EDGES, EDGES[1:], strict=False):
        found = count.compute()
        print(f"{low:3.0f} to {high:3.0f}: {found['objects']} objects, mAP@.5 {found['map50']:.3f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
