"""Whether bfloat16 pays for a plain training step on this processor: what ``--precision auto`` goes by.

    python tests/benchmarks/precision.py [--rounds 7] [--batch 128] [--arch advkit/resnet20] [--threads 2]

Float32 in the order that torch allocates, float32 and bfloat16 in channels-last order, interleaved; medians of ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from advkit.models.build import create


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--arch", default="advkit/resnet20")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = {
        "float32, contiguous": step(options.arch, options.batch, torch.contiguous_format, False),
        "float32": step(options.arch, options.batch, torch.channels_last, False),
        "bfloat16": step(options.arch, options.batch, torch.channels_last, True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - began)
    supported = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    print(f"{options.arch}, batch {options.batch}, {options.threads} threads, torch {torch.__version__}")
    print(f"bfloat16 in AVX-512: {supported[0]}, in AMX: {supported[1]}")
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times["float32"], strict=True))
        print(f"{name:20} {statistics.median(found):7.3f} s  {ratio:5.2f} x float32")


def step(arch: str, batch: int, order: torch.memory_format, half: bool) -> Callable[[], None]:
    """One plain training step."""
    network = create(arch, num_classes=10, input_size=(3, 32, 32), seed=0).train()
    network.net.to(memory_format=order)
    images = torch.rand(batch, 3, 32, 32).contiguous(memory_format=order)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(network.net.parameters(), lr=0.01, momentum=0.9)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            logits = network(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))
        optimizer.step()

    return run


if __name__ == "__main__":
    main()
