"""An epoch of the tiny detector on scenes, plain and adversarial: what each costs, and the share of loading.

    python tests/benchmarks/detector_epoch.py [--rounds 3] [--images 1000] [--threads 2] [--precision float32]

128 pixels, batches of 16, the whole training loop: loading, augmentation, attack, update. Scenes are drawn once, before
the first round. Every way trains a detector of its own for one epoch in every round; seconds are medians, ratios
medians of the rounds' ratios to plain training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from advkit.data import reference
from advkit.data.images import ImageSet
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.training.loop import train
from advkit.training.params import AdversarialParams, TrainParams
from advkit.training.run import Run

SECONDS = 60.0  # of the clock, allowed for an epoch of 1,000 images
MOST = {"fast": 2.2, "free": 1.3}  # times plain
EPS = 4 / 255
WAYS = {
    "plain": None,
    "free": AdversarialParams("free", EPS, step_size=EPS, replays=4),
    "fast": AdversarialParams("fast", EPS, step_size=1.25 * EPS),
    "pgd, 3 steps": AdversarialParams("pgd", EPS, steps=3, step_size=2.5 * EPS / 3),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = Timed(reference.load("scenes/photo", role="train"))
    params = TrainParams(
        epochs=1, batch_size=16, optimizer="adamw", lr=1e-3, augment=frozenset(("crop", "flip")),
        precision=options.precision,
    )  # fmt: skip
    for part in torch.arange(options.images).split(params.batch_size):
        data.batch(part)
    drawn = data.seconds
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    loading: list[float] = []
    for number in range(options.rounds + 1):
        for name, settings in WAYS.items():
            images = options.images if number else 64  # the first round warms up
            data.seconds = 0.0
            seconds = epoch(data, replace(params, adversarial=settings), images)
            if number:
                times[name].append(seconds)
                if name == "plain":
                    loading.append(data.seconds / seconds)
    print(f"advkit/tiny-ssd, {options.images} images, {options.threads} threads, {options.precision}", end=", ")
    print(f"torch {torch.__version__}")
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times["plain"], strict=True))
        most = f"; {MOST[name]} {'kept' if ratio <= MOST[name] else 'MISSED'}" if name in MOST else ""
        print(f"{name:14} {statistics.median(found):6.1f} s  {ratio:5.2f} x plain{most}")
    seconds = statistics.median(times["plain"]) * 1000 / options.images
    print(f"1,000 images: {seconds:.1f} s; {SECONDS:.0f} s {'kept' if seconds <= SECONDS else 'MISSED'}")
    print(f"loading: {100 * statistics.median(loading):.1f} % of plain training; scenes were drawn in {drawn:.1f} s")


class Timed:
    """Data whose batches are made under a watch."""

    def __init__(self, data: ImageSet) -> None:
        self._data, self.seconds = data, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def batch(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the data."""
        began = time.perf_counter()
        found = self._data.batch(positions)
        self.seconds += time.perf_counter() - began
        return found


def epoch(data: Any, params: TrainParams, images: int) -> float:
    """Seconds of one epoch of a fresh detector."""
    network = create("advkit/tiny-ssd", num_classes=data.num_classes, input_size=data.size, seed=0)
    run = Run(network, data, torch.arange(images), torch.arange(0), [], params, None, {})
    began = time.perf_counter()
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
