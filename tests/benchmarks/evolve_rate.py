"""Candidates per hour of ``advkit evolve``, against a fresh ``train`` and ``transfer-matrix`` process for each.

    python tests/benchmarks/evolve_rate.py CIFAR_DIR RESNET20_STATE_DICT [--offspring 9] [--obvious 3] [--rungs 2]

One generation of a search is timed with one and with two workers. A search pays once for its set-up (R's adversarial
examples and gradients, R' at every rung); rates are given with it and without it. The obvious version trains every
candidate at full length with ``advkit train``, and attacks R anew for each with ``advkit transfer-matrix``; evolve
drops most candidates at a shorter rung, which is part of what is compared. Both see the same attacks, and as many
images.

Candidates differ thirtyfold in size. The obvious version is timed on some of them, and its time for all is told from
the time that these and all take at the first rung. Workers have one thread each; the obvious version is timed with one
thread, and with as many as there are cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from advkit.evolution.params import SearchParams

EPOCHS, VALIDATION = 3, 1000
COMMON = ("--quiet", "--limit", "20000")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cifar")
    parser.add_argument("weights")
    parser.add_argument("--offspring", type=int, default=9)
    parser.add_argument("--obvious", type=int, default=3)
    parser.add_argument("--rungs", type=int, default=2)
    parser.add_argument("--images", type=int, default=5000, help="of a full-length training")
    parser.add_argument("--max-multiply-adds", type=int, default=16_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = ("--arch", f"advkit/resnet20@{options.weights}", "--data", f"{options.cifar}#train")
        advkit("train", "--epochs", "0", *reference, "--limit", "100", "-q", "-o", folder / "R.safetensors")
        evolved = {workers: evolve(folder, options, workers) for workers in (1, 2)}
        plain = obvious(folder, options)
    for threads, each in plain.items():
        print(f"{f'obvious, {threads} threads':36} {3600 / each:6.1f} candidates an hour")
    for workers, (whole, without) in evolved.items():
        for what, found in (("set-up included", whole), ("set-up paid", without)):
            each = found / options.offspring
            ratios = ", ".join(f"{obvious / each:5.2f} x" for obvious in plain.values())
            print(
                f"{f'evolve, {workers} workers, {what}':36} {3600 / each:6.1f} candidates an hour, {ratios} the obvious"
            )
    print(f"two workers are {evolved[1][1] / evolved[2][1]:.2f} x one")


def start(*arguments: str | Path, threads: int = 1) -> subprocess.Popen[bytes]:
    """``advkit ARGUMENTS``, running."""
    command = [sys.executable, "-m", "advkit", *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, stdout=subprocess.DEVNULL)


def advkit(*arguments: str | Path, threads: int = 1) -> float:
    """Seconds of ``advkit ARGUMENTS``."""
    began = time.perf_counter()
    if start(*arguments, threads=threads).wait():
        raise SystemExit("a command failed")
    return time.perf_counter() - began


def evolve(folder: Path, options: argparse.Namespace, workers: int) -> tuple[float, float]:
    """Seconds of one generation, with set-up and without; prints where they went."""
    run = folder / f"run{workers}"
    cost = SearchParams(offspring=options.offspring, rungs=options.rungs).generation_cost
    began, paid = time.perf_counter(), 0.0
    process = start(
        *("evolve", folder / "R.safetensors", "--data", f"{options.cifar}#train", *COMMON, "--run-dir", run),
        *("--offspring", str(options.offspring), "--budget", str(math.ceil(cost)), "--rungs", str(options.rungs)),
        *("--candidate-images", str(options.images), "--candidate-epochs", str(EPOCHS), "--accuracy-floor", "0"),
        *("--validation-images", str(VALIDATION), "--finalists", "0", "--workers", str(workers)),
        *("--max-multiply-adds", str(options.max_multiply_adds)),
        *("-o", folder / f"e{workers}.safetensors"),
    )
    while process.poll() is None:
        time.sleep(0.2)
        if not paid and sum(record["id"] == "R'" for record in read(run)) == options.rungs:
            paid = time.perf_counter() - began
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(process.returncode)
    records = [record for record in read(run) if "generation" in record]
    trained = sum(record["training_seconds"] for record in records)
    measured = sum(record["seconds"] for record in records) - trained
    print(
        f"{workers} workers: {seconds:.0f} s, {paid:.0f} s of them set-up; then {options.offspring} candidates in "
        f"{len(records)} trainings: of the workers' {workers * (seconds - paid):.0f} s, training took {trained:.0f} s, "
        f"measuring {measured:.0f} s"
    )
    return seconds, seconds - paid


def read(run: Path) -> list[dict[str, Any]]:
    path = run / "candidates.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []  # the last may be half-written
    return [json.loads(line) for line in whole]


def obvious(folder: Path, options: argparse.Namespace) -> dict[int, float]:
    """Seconds for one of the same candidates, a process for each training and each matrix, by threads."""
    first = [record for record in read(folder / "run1") if record["stage"] == "rung0" and "genome" in record]
    timed = first[: options.obvious]
    seconds: dict[int, list[float]] = {1: [], os.cpu_count() or 1: []}
    for record in timed:
        genome, weights = folder / "g.json", folder / "c.safetensors"
        genome.write_text(json.dumps(record["genome"]))
        for threads, found in seconds.items():
            spent = advkit(
                *("train", "--arch", f"advkit/genome:{genome}", "--misalign-from", folder / "R.safetensors", "-q"),
                *("--data", f"{options.cifar}#train", "--limit", str(round(options.images / 0.9))),
                *("--epochs", str(EPOCHS), "-o", weights, "--force", "--report", folder / "c.json"),
                threads=threads,
            )
            spent += advkit(
                *("transfer-matrix", f"R={folder / 'R.safetensors'}", f"E={weights}", "--surrogate", "R", "-q"),
                *("--data", f"{options.cifar}#train", "--limit", str(VALIDATION), "--method", "pgd"),
                *("--method", "mi,di", "--report", folder / "m.json"),
                threads=threads,
            )
            print(f"obvious, {threads} threads: {spent:.0f} s for {record['id']}", flush=True)
            found.append(spent)
    whole, part = (statistics.mean(record["training_seconds"] for record in records) for records in (first, timed))
    return {threads: whole / part * statistics.mean(found) for threads, found in seconds.items()}


if __name__ == "__main__":
    main()
