"""The grid of run.sh as a table and a figure: mean average precision clean and under attack, and what training cost.

    python grid.py RESULTS DOMAIN FIGURE.png

Takes every training DOMAIN-from-NAME-seedN of RESULTS that was measured; one without an attack has no robust figure. Of
several seeds the values stand beside each other, in their order; of one its interval, by resampling the test images.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LOSSES = {  # by the end of a report's name
    "sum": "under PGD-20 at 2/255, whole loss",
    "cls": "cls",
    "loc": "loc",
    "sum-4": "at 4/255, whole loss",
}


@dataclass(frozen=True)
class Row:
    """One training of one seed.

    Attributes:
        name: as run.sh calls it, without the seed.
        clean: mAP@.5 on the test images, and its interval.
        robust: the same under PGD-20 by each loss, on the first of them.
        passes: forward and backward passes of training, for each image of each epoch.
    """

    name: str
    clean: tuple[float, float, float]
    robust: dict[str, tuple[float, float, float]]
    passes: float


def main(results: str, domain: str, figure: str) -> None:
    """Print the table as Markdown and draw clean against robust."""
    rows = [read(path, domain) for path in sorted(Path(results).glob(f"{domain}-from-*-seed?-test.json"))]
    print(f"| training | mAP@.5 | {' | '.join(LOSSES.values())} | passes |\n|{'---|' * (3 + len(LOSSES))}")
    names = sorted({row.name for row in rows}, key=lambda name: (len(name.split("-")), name))
    for name in names:
        seeds = [row for row in rows if row.name == name]
        cells = [told([row.clean for row in seeds])]
        cells += [told([row.robust[loss] for row in seeds if loss in row.robust]) for loss in LOSSES]
        print(f"| {called(name)} | {' | '.join(cells)} | {seeds[0].passes:.2f} |")
    draw(figure, names, [row for row in rows if "sum" in row.robust])


def read(test: Path, domain: str) -> Row:
    """The reports of one training, by that on the test images."""
    stem = test.name.removesuffix("-test.json")
    cost = result(test.with_name(f"{stem}.json"))["cost"]
    attacks = {loss: test.with_name(f"{stem}-{loss}.json") for loss in LOSSES}
    robust = {
        loss: precision(result(path)["surrogates"][0]["adversarial_detection"])
        for loss, path in attacks.items()
        if path.exists()
    }
    return Row(
        stem.removeprefix(f"{domain}-from-").rpartition("-seed")[0],
        precision(result(test)["models"][0]["detection"]),
        robust,
        (cost["forwards"] + cost["backwards"]) / 2,
    )


def result(path: Path) -> dict[str, Any]:
    """That of a report."""
    found: dict[str, Any] = json.loads(path.read_text())["result"]
    return found


def precision(found: dict[str, Any]) -> tuple[float, float, float]:
    """mAP@.5 with the ends of its interval."""
    low, high = found["map50_interval"]
    return found["map50"], low, high


def called(name: str) -> str:
    """``eps2-fast-cls`` as ``fast, 2/255, cls``."""
    eps, *rest = name.removeprefix("eps").split("-")
    return ", ".join([rest[0], f"{eps}/255", *rest[1:]]) if rest else f"eps {eps}"


def told(found: list[tuple[float, float, float]]) -> str:
    """Nothing, ``0.912 [0.900, 0.920]`` of one seed, ``0.912, 0.908`` of several."""
    if len(found) == 1:
        value, low, high = found[0]
        return f"{value:.3f} [{low:.3f}, {high:.3f}]"
    return ", ".join(f"{value:.3f}" for value, _, _ in found)


def draw(path: str, names: list[str], rows: list[Row]) -> None:
    """Clean (x) against robust (y): a mark for each training, and as many of it as there are seeds."""
    figure = Figure(figsize=(5.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    told: set[str] = set()
    for row in rows:
        number, (x, y) = names.index(row.name), (row.clean, row.robust["sum"])
        axes.errorbar(
            *(x[0], y[0]),
            xerr=[[x[0] - x[1]], [x[2] - x[0]]],
            yerr=[[y[0] - y[1]], [y[2] - y[0]]],
            fmt="osD^vP*X"[number % 8],
            color=f"C{number % 10}",
            elinewidth=0.5,
            capsize=2,
            label=None if row.name in told else called(row.name),
        )
        told.add(row.name)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("mAP@.5, clean")
    axes.set_ylabel("mAP@.5, PGD-20 on the whole loss")
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
