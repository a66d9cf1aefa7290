"""Gains of adversarial training, seed by seed and on average, against how far each domain is from the source.

    python gain_figure.py DISTANCES.json OUT.png GAINS [CALIBRATION.json TRAINING]

DISTANCES.json is a report of domain-distance; GAINS what the names of files of paired_gain.py begin with, one file for
each training and seed, as TRAINING-seedN.json: their folder and a slash, or more. Prints every mean gain with a
t-interval over the seeds, and Spearman's correlation of distance and mean gain over the domains of a training, with a
bootstrap over seeds. CALIBRATION, of the mean gains of TRAINING, is for domain-distance --calibration.
"""

from __future__ import annotations

import glob
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr, t

RESAMPLES = 2000


def main(distances: str, out: str, beginning: str, calibration: str = "", training: str = "") -> None:
    """Print a line for each training and domain, and draw those that distances know."""
    measured = json.loads(Path(distances).read_text())["result"]
    ratio = {name(one["target"]): one["distances"]["frechet"]["ratio"] for one in measured["targets"]}
    if calibration:
        calibrate(Path(calibration), measured, by_domain(beginning, training))
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=0.8)
    begun = len(Path(beginning + "x").name) - 1
    trainings = sorted(
        {Path(path).stem.rpartition("-seed")[0][begun:] for path in glob.glob(f"{beginning}*-seed*.json")},
        key=lambda training: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", training)],
    )
    nearest = min(np.diff(np.sort(np.log(list(ratio.values())))), default=1.0)
    aside = min(0.05, 0.7 * nearest / len(trainings))  # so that no training is drawn where another domain is
    number = 0  # of trainings drawn
    for training in trainings:
        gains = by_domain(beginning, training)
        for domain, found in gains.items():
            print(f"{training:24} {domain:12} {mean(found)}  {' '.join(f'{value:+.1f}' for value in found)}")
        shown = [domain for domain in gains if domain in ratio]
        if len(shown) < 2:
            continue
        table = np.array([gains[domain] for domain in shown])
        x = np.array([ratio[domain] for domain in shown]) * np.exp(aside * number)
        if len(shown) > 2:
            print(f"{training:24} Spearman     {correlation(x, table)}")
        colour = f"C{number}"
        for values in table.T:
            axes.plot(x, values, ".", color=colour, alpha=0.5, markersize=4)
        axes.errorbar(
            x, table.mean(1), yerr=half(table), fmt="osD^v"[number % 5], color=colour, capsize=3, label=training
        )
        number += 1
    for domain, value in ratio.items():
        axes.annotate(domain, (value, axes.get_ylim()[1]), ha="center", va="bottom", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(list(ratio.values()), [f"{value:.3g}" for value in ratio.values()])
    axes.minorticks_off()
    axes.set_xlabel("Fréchet distance to the source, over the floor")
    axes.set_ylabel("gain, points")
    axes.legend(fontsize=8)
    figure.savefig(out, dpi=110)


def calibrate(path: Path, measured: dict[str, Any], gains: dict[str, list[float]]) -> None:
    """Write mean gains with their t-intervals over the distances that were ``measured``."""
    pairs = []
    for one in measured["targets"]:
        found = gains[one["target"]]
        value, around = float(np.mean(found)), float(half(np.array([found]))[0])
        pairs.append(
            {
                "source": measured["source"],
                "target": one["target"],
                "ratio": one["distances"]["frechet"]["ratio"],
                "gain": round(value, 3),
                "interval": [round(value - around, 3), round(value + around, 3)],
            }
        )
    features = {name: measured["features"][name] for name in ("sha256", "layer", "size")}
    content = {
        "spec": "advkit/calibration/1",
        "gain": "mAP@.5 in points",
        "features": features,
        "images": measured["n"],
        "pairs": pairs,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def by_domain(beginning: str, training: str) -> dict[str, list[float]]:
    """Gains in points of each domain, in the order of the seeds."""
    found = [json.loads(Path(path).read_text()) for path in sorted(glob.glob(f"{beginning}{training}-seed*.json"))]
    return {name(ref): [100 * one[ref]["gain"] for one in found] for ref in found[0]}


def name(ref: str) -> str:
    """Of a domain: the last of its reference that says something."""
    return ref.removesuffix("/test.npz").rpartition("/")[2]


def half(table: np.ndarray) -> np.ndarray:
    """(D,) half widths of 95 % t-intervals over the seeds of ``table`` (D, S); 0 where there is one."""
    seeds = table.shape[1]
    return t.ppf(0.975, seeds - 1) * table.std(1, ddof=1) / np.sqrt(seeds) if seeds > 1 else np.zeros(len(table))


def mean(found: list[float]) -> str:
    """``+1.2 [-0.3, +2.6]``."""
    value, around = float(np.mean(found)), float(half(np.array([found]))[0])
    return f"{value:+.1f}" + (f" [{value - around:+.1f}, {value + around:+.1f}]" if len(found) > 1 else "")


def correlation(x: np.ndarray, table: np.ndarray) -> str:
    """Spearman's, of distance and mean gain over seeds."""
    rng = np.random.default_rng(0)
    seeds = table.shape[1]
    drawn = [table[:, rng.integers(0, seeds, seeds)].mean(1) for _ in range(RESAMPLES)]
    low, high = np.quantile([spearmanr(x, one).statistic for one in drawn], [0.025, 0.975])
    return (
        f"{spearmanr(x, table.mean(1)).statistic:+.2f} [{low:+.2f}, {high:+.2f}] over {len(x)} domains, {seeds} seeds"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
