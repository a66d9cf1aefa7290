"""The difference between two victims over several training seeds, from the reports of ``transfer-matrix``.

    python tests/studies/evolution/pool.py "R:R',E" matrix.json matrix-2.json matrix-3.json

Each report holds one seed's paired counts on its common images. The difference is the mean over seeds; its interval is
a bootstrap in two stages: seeds are drawn with replacement, and each one's common images too. With few seeds such an
interval is rough: read it with the differences of the single seeds, which are printed as well.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

DRAWS = 20_000
CELLS = ("both", "only_a", "only_b", "neither")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("compare", metavar="R:A,B")
    parser.add_argument("reports", nargs="+", type=Path)
    options = parser.parse_args()
    surrogate, _, victims = options.compare.partition(":")
    a, _, b = victims.partition(",")
    found = [counts(path, surrogate, a, b) for path in options.reports]
    json.dump({"surrogate": surrogate, "a": a, "b": b, **pooled(found)}, sys.stdout, indent=2, sort_keys=True)
    print()


def counts(path: Path, surrogate: str, a: str, b: str) -> dict[str, Any]:
    """One seed's paired counts, of the union of the attacks."""
    comparisons = json.loads(path.read_text())["result"]["comparisons"]
    for one in comparisons:
        if (one["surrogate"], one["a"], one["b"], one["method"]) == (surrogate, a, b, "union"):
            return {"report": path.name, **{name: one[name] for name in (*CELLS, "total", "difference")}}
    raise SystemExit(f"{path}: holds no comparison {surrogate}:{a},{b} of the union")


def pooled(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean difference over seeds with its 95 % interval."""
    rng = np.random.default_rng(0)
    cells = np.array([[one[name] for name in CELLS] for one in found], dtype=float)
    totals = cells.sum(1)
    drawn = rng.integers(0, len(found), (DRAWS, len(found)))
    means = np.zeros(DRAWS)
    for place in range(len(found)):
        chosen = drawn[:, place]
        picked = rng.multinomial(totals[chosen].astype(int), cells[chosen] / totals[chosen, None])
        means += (picked[:, 1] - picked[:, 2]) / totals[chosen] / len(found)
    low, high = np.quantile(means, [0.025, 0.975])
    return {
        "seeds": found,
        "difference": float(np.mean((cells[:, 1] - cells[:, 2]) / totals)),
        "interval": [float(low), float(high)],
    }


if __name__ == "__main__":
    main()
