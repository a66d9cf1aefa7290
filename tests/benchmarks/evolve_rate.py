"""Candidates per hour of ``advkit evolve``, against a fresh ``train`` and ``transfer-matrix`` process for each.

    python tests/benchmarks/evolve_rate.py CIFAR_DIR RESNET20_STATE_DICT [--offspring 9] [--obvious 3]

One generation of a search is timed with one and with two workers, from the start of the process to its end, set-up
included. The obvious version trains some of the very same candidates with ``advkit train`` on as many images for as
many epochs, and attacks R anew for each with ``advkit transfer-matrix``; both see the same attacks and as many images.
Processes have one thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IMAGES, EPOCHS, VALIDATION = 5000, 3, 1000
COMMON = ("--quiet", "--limit", "12000")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar")
    parser.add_argument("weights")
    parser.add_argument("--offspring", type=int, default=9)
    parser.add_argument("--obvious", type=int, default=3)
    parser.add_argument("--rungs", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = ("--arch", f"advkit/resnet20@{options.weights}", "--data", f"{options.cifar}#train")
        advkit("train", "--epochs", "0", *reference, "--limit", "100", "-q", "-o", folder / "R.safetensors")
        evolved = {workers: evolve(folder, options, workers) for workers in (1, 2)}
        seconds = obvious(folder, options)
    each = {workers: found / options.offspring for workers, found in evolved.items()}
    plain = statistics.median(seconds)
    for workers, found in each.items():
        print(f"evolve, {workers} workers  {3600 / found:7.1f} candidates an hour  {plain / found:5.2f} x the obvious")
    print(f"obvious            {3600 / plain:7.1f} candidates an hour")
    print(f"two workers        {each[1] / each[2]:5.2f} x one")


def advkit(*arguments: str | Path) -> float:
    """Seconds of ``advkit ARGUMENTS``."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "advkit", *map(str, arguments)]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def evolve(folder: Path, options: argparse.Namespace, workers: int) -> float:
    """Seconds of one generation, and a line that says where they went."""
    run = folder / f"run{workers}"
    seconds = advkit(
        *("evolve", folder / "R.safetensors", "--data", f"{options.cifar}#train", *COMMON, "--run-dir", run),
        *("--offspring", str(options.offspring), "--budget", str(options.offspring), "--rungs", str(options.rungs)),
        *("--candidate-images", str(IMAGES), "--candidate-epochs", str(EPOCHS), "--accuracy-floor", "0"),
        *("--validation-images", str(VALIDATION), "--finalists", "0", "--workers", str(workers)),
        *("-o", folder / f"e{workers}.safetensors"),
    )
    records = read(run)
    trained = sum(record.get("training_seconds", 0.0) for record in records)
    measured = sum(record["seconds"] for record in records) - trained
    print(
        f"{workers} workers: {seconds:.0f} s for {options.offspring} candidates, {len(records)} trainings; of the "
        f"workers' {workers * seconds:.0f} s, training took {trained:.0f} s, measuring {measured:.0f} s, all else "
        f"{workers * seconds - trained - measured:.0f} s"
    )
    return seconds


def read(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "candidates.jsonl").read_text().splitlines()]


def obvious(folder: Path, options: argparse.Namespace) -> list[float]:
    """Seconds for some of the same candidates, a process for each training and each matrix."""
    first = [record for record in read(folder / "run1") if record["stage"] == "rung0" and "genome" in record]
    seconds = []
    for record in first[: options.obvious]:
        genome, weights = folder / "g.json", folder / "c.safetensors"
        genome.write_text(json.dumps(record["genome"]))
        spent = advkit(
            *("train", "--arch", f"advkit/genome:{genome}", "--misalign-from", folder / "R.safetensors", "-q"),
            *("--data", f"{options.cifar}#train", "--limit", str(round(IMAGES / 0.9)), "--epochs", str(EPOCHS)),
            *("-o", weights, "--force", "--report", folder / "c.json"),
        )
        spent += advkit(
            *("transfer-matrix", f"R={folder / 'R.safetensors'}", f"E={weights}", "--surrogate", "R", "-q"),
            *("--data", f"{options.cifar}#train", "--limit", str(VALIDATION), "--method", "pgd", "--method", "mi,di"),
            *("--report", folder / "m.json"),
        )
        print(f"obvious: {spent:.0f} s for {record['id']}")
        seconds.append(spent)
    return seconds


if __name__ == "__main__":
    main()
