"""Bounds that a run had to keep: they decide its exit status."""

from __future__ import annotations

from advkit.reports.rates import StrictModel


class Gate(StrictModel):
    """A bound that the run had to keep."""

    option: str
    bound: float
    what: str
    value: float | None
    passed: bool


def gates(what: str, value: float | None, fail_above: float | None, fail_below: float | None) -> list[Gate]:
    """The bounds asked for; a rate without any image keeps no bound."""
    found = []
    if fail_above is not None:
        passed = value is not None and value <= fail_above
        found.append(Gate(option="--fail-above", bound=fail_above, what=what, value=value, passed=passed))
    if fail_below is not None:
        passed = value is not None and value >= fail_below
        found.append(Gate(option="--fail-below", bound=fail_below, what=what, value=value, passed=passed))
    return found
