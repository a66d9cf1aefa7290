"""The figures of digits.sh over seeds and threads, as a Markdown table.

    python tests/pipelines/digits_table.py --advkit .venv/bin/advkit --seeds 0 1 2 3 4 --threads 1 2

One run at a time. T is T_cond of R's PGD examples, "noise" the same images under noise of the same norm; "gap" is
(T - noise) of R2 less (T - noise) of R', all in per cent. "seconds" are of the whole script.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("digits.sh")
COLUMNS = ("seed", "threads", "T R2", "T R'", "noise R2", "noise R'", "gap", "acc R", "acc R2", "acc R'", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advkit", default="advkit", help="the command; may hold spaces")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS), flush=True)
    for threads in given.threads:
        for seed in given.seeds:
            result, seconds = run(given.advkit, seed, threads)
            cells = [str(seed), str(threads), *(f"{100 * rate:.1f}" for rate in figures(result)), f"{seconds:.0f}"]
            print("| " + " | ".join(cells) + " |", flush=True)


def run(advkit: str, seed: int, threads: int) -> tuple[dict[str, Any], float]:
    """Result of the transfer matrix, and the seconds of the whole script."""
    environment = os.environ | {"SEED": str(seed), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        command = ["sh", str(SCRIPT), advkit, folder]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        return json.loads((Path(folder) / "matrix.json").read_text())["result"], seconds


def figures(result: dict[str, Any]) -> list[float]:
    """Rates in the order of the columns."""
    accuracy = {entry["model"]: entry["accuracy"]["rate"] for entry in result["clean"]}
    pairs = {p["victim"]: p for p in result["pairs"] if p["surrogate"] == "R" and p["method"] == "pgd"}
    cond, noise = ([pairs[victim][name]["rate"] for victim in ("R2", "R'")] for name in ("cond", "noise"))
    gap = (cond[0] - noise[0]) - (cond[1] - noise[1])
    return [*cond, *noise, gap, *(accuracy[model] for model in ("R", "R2", "R'"))]


if __name__ == "__main__":
    main()
