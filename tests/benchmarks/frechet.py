"""The Fréchet distance by the nuclear norm, against the formula with a matrix square root, which others use.

    python tests/benchmarks/frechet.py [--rounds 3] [--images 500] [--features 2048] [--threads 1]

The value and its influence function, and the value alone, against scipy.linalg.sqrtm of the product of the covariances,
interleaved; seconds are medians over the rounds, of the processor. With fewer images than features the covariances have
no full rank, so that the square root is off by its rounding; the values are compared with that in mind, and once more
where they have it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from advkit.distance.frechet import frechet, frechet_distance

FASTER = 10.0  # times, asked for
AGREE, AGREE_FULL_RANK = 1e-4, 1e-6  # relative


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    a, b = samples(options.images, options.features)
    ways: dict[str, Callable[[], float]] = {
        "square root": lambda: by_square_root(a, b),
        "advkit": lambda: frechet_distance(a, b),
        "advkit, with influence": lambda: frechet(a, b).value,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    values: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, way in ways.items():
            began = time.process_time()
            values[name] = way()
            times[name].append(time.process_time() - began)
    print(f"{options.images} images, {options.features} features, {options.threads} threads, torch {torch.__version__}")
    for name, found in times.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(times["square root"], found, strict=True))
        print(f"{name:24} {statistics.median(found):8.3f} s  {ratio:6.1f} x  {values[name]:.9g}")
    ratio = statistics.median(t / o for t, o in zip(times["square root"], times["advkit"], strict=True))
    off = abs(values["advkit"] / values["square root"] - 1)
    full = full_rank()
    kept = ratio >= FASTER and off <= AGREE and full <= AGREE_FULL_RANK
    print(f"{ratio:.0f} times as fast, {FASTER:.0f} asked for; values differ by {off:.1e}, of full rank by {full:.1e}")
    print("kept" if kept else "MISSED")


def samples(images: int, features: int) -> tuple[Tensor, Tensor]:
    """Features whose variances fall as those of networks do."""
    chance = torch.Generator().manual_seed(0)
    scale = torch.arange(1, features + 1, dtype=torch.float64) ** -0.5
    a, b = (torch.randn(images, features, generator=chance, dtype=torch.float64) for _ in range(2))
    return a * scale, (1.2 * b + 0.1) * scale


def by_square_root(a: Tensor, b: Tensor) -> float:
    """As FID is written (Heusel et al. 2017), and as most packages compute it."""
    s1, s2 = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + np.trace(s1) + np.trace(s2) - 2 * np.trace(np.real(root)))


def full_rank() -> float:
    """Relative difference of the two where no covariance lacks rank."""
    a, b = samples(400, 64)
    return abs(frechet_distance(a, b) / by_square_root(a, b) - 1)


if __name__ == "__main__":
    main()
