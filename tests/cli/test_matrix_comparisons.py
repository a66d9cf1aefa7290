"""Comparisons of a transfer matrix: p-values are adjusted over all of the report."""

from __future__ import annotations

import json
from pathlib import Path

from executable import Run

from advkit.metrics.paired_tests import holm
from advkit.reports.transfer_matrix import TransferMatrixResult
from advkit.reports.transfer_matrix_table import table


def test_p_values_are_adjusted_over_all_comparisons_of_the_report(r: Path, r2: Path, inside: Run) -> None:
    few = ("--data", "digits", "--limit", "40", "--eps", "0.3", "--method", "pgd", "--method", "mi", "--steps", "2")
    done = inside("transfer-matrix", f"R={r}", f"V={r2}", *few, "--compare", "R:R,V", "--compare", "V:V,R", "--json")
    assert done.returncode == 0, done.stderr
    result = TransferMatrixResult.model_validate(json.loads(done.stdout)["result"])
    compared = result.comparisons
    assert len(compared) == 6, "two comparisons, each by two methods and their union"
    assert [found.p_value_holm for found in compared] == holm([found.p_value for found in compared])


def test_the_table_shows_the_adjusted_p_values(r: Path, r2: Path, inside: Run) -> None:
    few = ("--data", "digits", "--limit", "40", "--eps", "0.3", "--method", "pgd", "--method", "mi", "--steps", "2")
    done = inside("transfer-matrix", f"R={r}", f"V={r2}", *few, "--compare", "R:R,V", "--json")
    result = TransferMatrixResult.model_validate(json.loads(done.stdout)["result"])
    change = {"total": 40, "difference": 0.25, "interval": (0.1, 0.4), "p_value": 0.0123, "p_value_holm": 0.0369}
    result.comparisons = [found.model_copy(update=change) for found in result.comparisons]
    lines = table(result, "cond", "")
    assert sum("Holm p = 0.037" in line for line in lines) == 3
    assert not any("p = 0.012" in line for line in lines)
    result.comparisons = result.comparisons[:1]
    assert any("McNemar p = 0.037" in line for line in table(result, "cond", ""))
