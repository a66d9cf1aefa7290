"""The table of a transfer matrix: its figures are the report's, the net one is a difference of two of them."""

from __future__ import annotations

from typing import Any

from advkit.reports.rates import rate
from advkit.reports.transfer_matrix import Accuracy, Pair, SurrogateSuccess, TransferMatrixResult
from advkit.reports.transfer_matrix_table import table

NAMES = ["R", "R'"]


def pair(surrogate: str, victim: str, method: str = "pgd", **rates: Any) -> Pair:
    counts: dict[str, Any] = {"cond": rate(30, 40), "both": rate(31, 90), "raw": rate(45, 100), "same": rate(20, 40)}
    counts |= {"flipped": rate(3, 40), "noise": rate(10, 40)} | rates
    return Pair(surrogate=surrogate, victim=victim, method=method, white_box=surrogate == victim, **counts)


def result(*pairs: Pair) -> TransferMatrixResult:
    success = SurrogateSuccess(
        **{"surrogate": "R", "method": "pgd", "norm": "linf", "eps": 0.1, "goal": "transfer", "success": rate(40, 90)},
        **{"zero_gradients": 0, "dead_gradients": 0, "forwards_per_image": 1, "backwards_per_image": 1},
    )
    return TransferMatrixResult(
        images=100,
        models=NAMES,
        surrogates=["R"],
        methods=["pgd"],
        clean=[Accuracy(model=name, accuracy=rate(95, 100)) for name in NAMES],
        surrogate_success=[success],
        pairs=[pair("R", "R"), *pairs],
        gradients=None,
        comparisons=[],
        gates=[],
        attack_seconds=1.0,
        figure=None,
    )


def below(lines: list[str], heading: str) -> list[str]:
    """The words of the line below ``heading``."""
    return lines[lines.index(heading) + 1].split()


def test_every_rate_with_its_count_and_net_of_noise() -> None:
    lines = table(result(pair("R", "R'")), "cond", "digits")
    assert below(lines, "R -> R'") == [
        *("pgd", "75.0", "[59.8,", "85.8]", "30/40", "25.0", "+50.0", "7.5", "34.4", "45.0", "50.0")
    ]
    assert "R -> R" not in lines, "a white box is no transfer"
    assert max(map(len, lines)) <= 80


def test_noise_that_fools_more_often_is_a_negative_net() -> None:
    lines = table(result(pair("R", "R'", noise=rate(32, 40))), "cond", "digits")
    assert "-5.0" in below(lines, "R -> R'")


def test_what_was_not_measured_is_a_dash() -> None:
    bare = pair("R", "R'", cond=rate(0, 0), same=rate(0, 0), flipped=None, noise=None)
    assert below(table(result(bare), "cond", "digits"), "R -> R'") == [
        "pgd",
        "-",
        "0/0",
        "-",
        "-",
        "-",
        "34.4",
        "45.0",
        "-",
    ]


def test_a_long_method_has_a_line_of_its_own() -> None:
    lines = table(result(pair("R", "R'"), pair("R", "R'", "mi:decay=0.9,di")), "cond", "digits")
    at = lines.index("  mi:decay=0.9,di")
    assert lines[at + 1].split() == below(lines, "R -> R'")[1:]
    assert lines[at + 1].index("30/40") == lines[lines.index("R -> R'") + 1].index("30/40")
