"""Our PGD-10 on the folded ResNet-20 against torchattacks' PGD-10 on the plain one.

    python tests/benchmarks/attack_step.py WEIGHTS.th [--rounds 7] [--batch 64] [--threads 1]

Both take the same images, budget and step size; they run interleaved, and the ratio is the median over rounds.
The plain network is measured with our loop too, so that the loop's and the fold's shares show.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchattacks
from torch import Tensor

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.models.fuse import fuse_conv_bn
from advkit.models.reference import load

EPS, STEPS = 8 / 255, 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", help="state dict of a CIFAR-10 ResNet-20")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = attacks(options.weights, options.batch)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    print(f"PGD-{STEPS}, ResNet-20, batch {options.batch}, {options.threads} threads, torch {torch.__version__}")
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times["torchattacks"], strict=True))
        print(f"{name:16} {statistics.median(found):7.3f} s  {ratio:5.2f} x torchattacks")


def attacks(weights: str, batch: int) -> dict[str, Callable[[], Tensor]]:
    """PGD-10 in each way, on random images with the network's own labels."""
    network = load(f"advkit/resnet20@{weights}", num_classes=10, input_size=(3, 32, 32))
    images = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels, indices, quick = network(images).argmax(1), torch.arange(batch), fuse_conv_bn(network)
    size = 2.5 * EPS / STEPS
    params = AttackParams(parse_method("pgd"), eps=EPS, steps=STEPS, step_size=size)
    peer = torchattacks.PGD(network, eps=EPS, alpha=size, steps=STEPS, random_start=True)
    return {
        "torchattacks": lambda: peer(images, labels),
        "advkit, plain": lambda: attack([network], images, labels, indices, params).images,
        "advkit, folded": lambda: attack([quick], images, labels, indices, params).images,
    }


if __name__ == "__main__":
    main()
