"""How much a misaligned training step costs, against a plain one, for each way of computing it.

    python tests/benchmarks/misaligned_step.py [--rounds 7] [--batch 128] [--arch advkit/resnet20]

Ways: ``train-mode`` differentiates twice through batch statistics (the obvious one); ``eval-mode`` takes running
statistics; ``folded`` is what advkit does: batch-norm folded, convolutions with a quick second derivative. These share
the plain step and the reference's gradient. ``bfloat16`` is folded, with plain step and penalty autocast: what
``--precision bfloat16`` does. All run interleaved, and are reported as medians of ratios to the plain float32 step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks.gradient_similarity import margin_gradients
from advkit.metrics.gradient_similarity import cosines
from advkit.models.build import create
from advkit.models.fuse import fuse_conv_bn
from advkit.training.misalign import Misalignment
from advkit.training.params import MisalignParams


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--arch", default="advkit/resnet20")
    options = parser.parse_args()
    images = torch.rand(options.batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (options.batch,))
    indices = torch.arange(options.batch)
    ways = steps(options.arch, images, labels, indices)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, step in ways.items():
            began = time.perf_counter()
            step()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    print(f"{options.arch}, batch {options.batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times["plain"], strict=True))
        print(f"{name:12} {statistics.median(found):7.3f} s  {ratio:5.2f} x plain")


def steps(arch: str, images: Tensor, labels: Tensor, indices: Tensor) -> dict[str, Callable[[], None]]:
    """One training step for each way."""
    network = create(arch, num_classes=10, input_size=(3, 32, 32), seed=0)
    network.net.to(memory_format=torch.channels_last)
    plain_reference = create(arch, num_classes=10, input_size=(3, 32, 32), seed=1).eval().requires_grad_(False)
    reference = fuse_conv_bn(plain_reference)
    optimizer = torch.optim.SGD(network.net.parameters(), lr=0.01, momentum=0.9)
    misalignment, half = (Misalignment(network, [reference], MisalignParams(), seed=0, half=h) for h in (False, True))

    def penalty_by(mode: str) -> Tensor:
        if mode in ("folded", "bfloat16"):
            return (half if mode == "bfloat16" else misalignment)(images, labels, indices, 0).penalty.mean()
        network.train(mode == "train-mode")
        gradient, _ = margin_gradients(network, images, labels, create_graph=True)
        return cosines(gradient, margin_gradients(plain_reference, images, labels)[0]).abs().mean()

    def step(mode: str) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            network.train()
            if mode in ("folded", "bfloat16"):
                (half if mode == "bfloat16" else misalignment).prepare()
            with torch.autocast("cpu", torch.bfloat16, enabled=mode == "bfloat16"):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), labels)
            if mode != "plain":
                loss = loss + penalty_by(mode)
            torch.autograd.backward(loss)
            optimizer.step()

        return run

    return {mode: step(mode) for mode in ("plain", "train-mode", "eval-mode", "folded", "bfloat16")}


if __name__ == "__main__":
    main()
