"""What folding batch-norm saves in training: where an attack sees it, and where its statistics are frozen.

    python tests/benchmarks/adversarial_step.py [--rounds 5] [--batch 128] [--threads 2]

A step of PGD-3 training of ResNet-20 at 32 pixels, and a plain one of FCOS on EfficientNet-Lite0 at 320 with frozen
statistics (a sixteenth of the batch): as the training loop takes them, with and without the fold, interleaved. Ratios
are medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from advkit.files.malloc import tune_malloc
from advkit.models.build import create
from advkit.models.live_fold import LiveFold
from advkit.training.loop import training_mode
from advkit.training.objective import TrainingStep, objective_of
from advkit.training.params import AdversarialParams, TrainParams

PGD = AdversarialParams("pgd", eps=8 / 255, steps=3, step_size=4 / 255)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tune_malloc()
    print(f"{options.threads} threads, torch {torch.__version__}")
    report("PGD-3 training, ResNet-20", *classifier(options.batch), options.rounds)
    report("frozen FCOS, EfficientNet-Lite0", *detector(max(options.batch // 16, 1)), options.rounds)


def report(what: str, plain: Callable[[], None], folded: Callable[[], None], rounds: int) -> None:
    """Run both and print what they take."""
    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        found = []
        for run in (plain, folded):
            began = time.perf_counter()
            run()
            found.append(time.perf_counter() - began)
        if number:  # the first round warms up
            times.append((found[0], found[1]))
    ratio = statistics.median(fold / without for without, fold in times)
    without, fold = (statistics.median(one[place] for one in times) for place in (0, 1))
    print(f"{what:34} {without:7.3f} s  folded {fold:7.3f} s  {ratio:5.2f} x")


def classifier(batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A step of PGD-3 training, without and with the fold."""
    params = TrainParams(batch_size=batch, adversarial=PGD)
    return steps("advkit/resnet20", (3, 32, 32), torch.randint(0, 10, (batch,)), params, None)


def detector(batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """A plain step with frozen statistics, without and with the fold."""
    box = torch.tensor([[40.0, 60.0, 200.0, 280.0, 0.0, 0.0], [150.0, 20.0, 310.0, 190.0, 0.0, 0.0]])
    params = TrainParams(batch_size=batch, freeze_bn=True)
    backbone = {"backbone": "timm/tf_efficientnet_lite0"}
    return steps("advkit/fcos", (3, 320, 320), box.expand(batch, -1, -1), params, backbone)


def steps(
    arch: str, size: tuple[int, int, int], targets: Tensor, params: TrainParams, model_args: dict[str, str] | None
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Forward and backward passes of one step, without and with the fold."""
    network = create(arch, num_classes=10, input_size=size, seed=0, model_args=model_args)
    network.net.to(memory_format=torch.channels_last)
    objective = objective_of(network, [], replace(params), None)
    images = torch.rand(len(targets), *size).contiguous(memory_format=torch.channels_last)
    step = TrainingStep(images, targets, torch.arange(len(targets)), 0, 0, 100)

    def run(context: Callable[[], AbstractContextManager[None]]) -> None:
        training_mode(network, freeze_bn=params.freeze_bn)
        with context():
            losses = objective(step).losses
            torch.autograd.backward(torch.stack(list(losses.values())).sum(0).mean())
        network.zero_grad(set_to_none=True)

    fold = LiveFold(network)
    return lambda: run(contextlib.nullcontext), lambda: run(fold.applied)


if __name__ == "__main__":
    main()
