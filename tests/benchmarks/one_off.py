"""The one-off check of two networks, by the real executable: 256 CIFAR-10 images, PGD-10.

    python tests/benchmarks/one_off.py WEIGHTS.th OTHER.th CIFAR-DIR [--rounds 3] [--precision float32]

WEIGHTS and OTHER are state dicts of ResNet-20, or ARCH@WEIGHTS. Time is by the clock, from the shell's point of view;
the seconds of the processor beside it show how much of it a busy machine took.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from processes import ADVKIT, cost

SECONDS = 10.0  # allowed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", nargs=2, help="state dict of a ResNet-20, or ARCH@WEIGHTS")
    parser.add_argument("data", help="CIFAR-10, binary or python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto", help="of the attack")
    options = parser.parse_args()
    models = [name if "@" in name else f"advkit/resnet20@{Path(name).resolve()}" for name in options.weights]
    named = [f"{letter}={model}" for letter, model in zip("AB", models, strict=True)]
    data = ["--data", str(Path(options.data).resolve()), "--limit", "256", "--precision", options.precision]
    command = [*ADVKIT, "transfer-matrix", *named, *data]
    with tempfile.TemporaryDirectory() as folder:
        costs = [cost(command, Path(folder)) for _ in range(options.rounds)]
    wall = statistics.median(found.wall for found in costs)
    cpu = statistics.median(found.cpu for found in costs)
    verdict = "kept" if wall <= SECONDS else "MISSED"
    print(f"{wall:.1f} s by the clock, {cpu:.1f} s of the processor; {SECONDS:.0f} s {verdict}")


if __name__ == "__main__":
    main()
