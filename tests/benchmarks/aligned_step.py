"""An adaptation's step against a plain one on the same source images: the tiny detector, and a classifier.

    python tests/benchmarks/aligned_step.py [--rounds 3] [--images 320] [--threads 2] [--precision float32]

The whole training loop without measurements: loading, augmentation, both passes, update. Scenes are drawn before the
first round. Every way trains a network of its own for one epoch in every round; milliseconds of processor time a step
are medians, ratios medians of the rounds' ratios to plain training. The mean teacher finds boxes in every image here,
the most that it can cost: a pass of the teacher and one of the student more.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import torch

from advkit.adaptation.method import MethodContext
from advkit.adaptation.objective import adaptation_of
from advkit.adaptation.params import AdaptationParams
from advkit.data import reference
from advkit.data.images import ImageSet
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.training.loop import train
from advkit.training.params import TrainParams
from advkit.training.run import Run

MOST = 2.2  # times plain, of alignment
WAYS = {
    "advkit/tiny-ssd": ("none", "local", "global", "local-global", "mean-teacher"),
    "advkit/resnet20": ("none", "dann", "cdan", "coral", "mcc", "self-training"),
}
DATA = {"advkit/tiny-ssd": ("scenes/photo", "scenes/sketch"), "advkit/resnet20": ("scenes/photo/crops",) * 2}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, {options.precision}, torch {torch.__version__}")
    for architecture, methods in WAYS.items():
        whole = architecture == "advkit/tiny-ssd"
        source = reference.load(DATA[architecture][0], role="train")
        target = reference.load(DATA[architecture][1], role="train", labelled=False, whole=whole)
        for data in (source, target):
            for part in torch.arange(options.images).split(16):
                data.batch(part)
        params = TrainParams(
            epochs=1, batch_size=16 if whole else 64, optimizer="adamw", lr=1e-3, precision=options.precision
        )
        times: dict[str, list[float]] = {name: [] for name in methods}
        for number in range(options.rounds + 1):
            for name in methods:
                images = options.images if number else params.batch_size * 2  # the first round warms up
                seconds = epoch(architecture, source, target, params, name, images)
                if number:
                    times[name].append(1000 * seconds / (images // params.batch_size))
        for name, found in times.items():
            ratio = statistics.median(a / b for a, b in zip(found, times["none"], strict=True))
            kept = "" if name == "mean-teacher" else f"; {MOST} {'kept' if ratio <= MOST else 'MISSED'}"
            print(f"{architecture}  {name:14} {statistics.median(found):7.1f} ms  {ratio:5.2f} x plain{kept}")


def epoch(
    architecture: str, source: ImageSet, target: ImageSet, params: TrainParams, method: str, images: int
) -> float:
    """Seconds of one epoch of a fresh network."""
    statistics_of: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    network = create(architecture, num_classes=source.num_classes, input_size=source.size, seed=0, **statistics_of)
    few = target.subset(torch.arange(images))
    context = MethodContext(network, few, AdaptationParams(method, threshold=0.01), params)
    part, nothing = torch.arange(images), torch.arange(0)
    run = Run(network, source, part, nothing, [], params, None, {}, objective=adaptation_of(context))
    began = time.process_time()
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    return time.process_time() - began


if __name__ == "__main__":
    main()
