"""Gains of adversarial training against how far each domain is from the source.

    python gain_figure.py DISTANCES.json OUT.png GAINS.json...

DISTANCES.json is a report of domain-distance, GAINS.json of paired_gain.py, called after its training.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure


def main(distances: str, out: str, *gains: str) -> None:
    """Draw a point for each domain, as distances call it, and each of GAINS."""
    targets = json.loads(Path(distances).read_text())["result"]["targets"]
    ratio = {one["target"]: one["distances"]["frechet"]["ratio"] for one in targets}
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=0.8)
    for number, name in enumerate(gains):
        found = {ref.rpartition("/")[2]: one for ref, one in json.loads(Path(name).read_text()).items()}
        shown = [ref for ref in found if ref in ratio]
        x = [ratio[ref] * 1.04**number for ref in shown]
        y = [100 * found[ref]["gain"] for ref in shown]
        ends = [[abs(100 * found[ref]["interval"][k] - 100 * found[ref]["gain"]) for ref in shown] for k in (0, 1)]
        axes.errorbar(x, y, yerr=ends, fmt="osD^v"[number % 5], capsize=3, label=Path(name).stem)
    for ref, value in ratio.items():
        axes.annotate(ref, (value, axes.get_ylim()[1]), ha="center", va="bottom", fontsize=8)
    axes.set_xscale("log")
    axes.set_xlabel("Fréchet distance to the source by pixels, over the floor")
    axes.set_ylabel("gain in mAP@.5, points")
    axes.legend(fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
