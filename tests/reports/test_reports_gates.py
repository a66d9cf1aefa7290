"""A bound on what has no value is not kept, and the message says why there is none."""

from __future__ import annotations

from advkit.reports.gates import gates


def test_what_has_no_value_keeps_no_bound_and_says_why() -> None:
    above, below = gates("a ratio", None, 2.0, 0.0, undefined="undefined (0 / 0)")
    assert (above.passed, below.passed) == (False, False)
    assert above.value_text == below.value_text == "undefined (0 / 0)"
    (rate,) = gates("a rate", None, 0.5, None)
    assert rate.value_text == "no images"
    assert "undefined" not in str(rate.model_dump_json()), "the report has null"


def test_bounds_hold_at_their_own_value() -> None:
    above, below = gates("a ratio", 1.5, 1.5, 1.5, undefined="undefined")
    assert (above.passed, below.passed, above.value_text) == (True, True, "1.5000")
    assert [gate.passed for gate in gates("a ratio", 1.5, 1.4, 1.6)] == [False, False]
    assert gates("a ratio", 1.5, None, None) == []
