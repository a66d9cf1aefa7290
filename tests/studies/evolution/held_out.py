"""Write the images that ``train`` held out, as a data set: what a setting may be tuned on.

    python held_out.py DATA LIMIT SEED OUT.npz

LIMIT and SEED are those of ``train``, whose default part is held out.
"""

from __future__ import annotations

import sys

import numpy as np

from advkit.data import reference
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import hold_out, limited

VALIDATION = 0.1  # train's default


def main(data: str, limit: str, seed: str, out: str) -> None:
    """Images (N, H, W, C) uint8 and labels (N,)."""
    images = limited(CLASSIFICATION, reference.load(data, role="train"), int(limit), int(seed))
    held = images.subset(hold_out(CLASSIFICATION, images, VALIDATION, int(seed))[1])
    pixels, labels = held.batch(slice(0, len(held)))
    np.savez(out, images=(pixels * 255).round().byte().permute(0, 2, 3, 1).numpy(), labels=labels.numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
