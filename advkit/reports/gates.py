"""Bounds that a run had to keep: they decide its exit status."""

from __future__ import annotations

from pydantic import PrivateAttr

from advkit.reports.rates import StrictModel


class Gate(StrictModel):
    """A bound that the run had to keep."""

    option: str
    bound: float
    what: str
    value: float | None
    passed: bool
    _undefined: str = PrivateAttr("no images")

    @property
    def value_text(self) -> str:
        """The value, or why there is none, for messages."""
        return self._undefined if self.value is None else f"{self.value:.4f}"


def gates(
    what: str, value: float | None, fail_above: float | None, fail_below: float | None, undefined: str = "no images"
) -> list[Gate]:
    """The bounds asked for; what has no value keeps no bound.

    Args:
        what: must keep them.
        value: of that; None where it is ``undefined``, for a reason that fits behind "is".
        fail_above, fail_below: the bounds.
        undefined: why there is no value.
    """
    found = []
    if fail_above is not None:
        passed = value is not None and value <= fail_above
        found.append(Gate(option="--fail-above", bound=fail_above, what=what, value=value, passed=passed))
    if fail_below is not None:
        passed = value is not None and value >= fail_below
        found.append(Gate(option="--fail-below", bound=fail_below, what=what, value=value, passed=passed))
    for gate in found:
        gate._undefined = undefined
    return found
