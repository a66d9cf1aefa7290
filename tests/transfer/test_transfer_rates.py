"""The four rates, counted by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from advkit.transfer.rates import SurrogateOutcome, VictimOutcome, count, eligible

LABELS = np.zeros(8, dtype=np.int64)


def side(kind: type, clean: list[int], adversarial: list[int]) -> SurrogateOutcome | VictimOutcome:
    """True class is 0 everywhere."""
    after = np.array(adversarial)
    return kind(np.array(clean) == 0, after, after != 0)


def test_four_rates_by_hand() -> None:
    #                            0  1  2  3  4  5  6  7
    s = side(SurrogateOutcome, clean=[0, 0, 0, 0, 0, 1, 1, 0], adversarial=[1, 1, 2, 0, 0, 1, 0, 3])
    v = side(VictimOutcome, clean=[0, 0, 0, 0, 0, 0, 0, 2], adversarial=[1, 2, 0, 5, 0, 1, 1, 3])
    found = count([(s, v)])  # type: ignore[list-item]
    # Both right: 0-4. Surrogate fooled there: 0, 1, 2. Victim fooled: 0, 1 of those, and 3.
    assert found.cond == (2, 3)
    assert found.both == (3, 5)
    assert found.raw == (6, 8)
    assert found.same == (1, 3)


def test_union_needs_one_method_that_fools_both() -> None:
    clean = [0] * 5
    #                                              0  1  2  3  4
    s1 = side(SurrogateOutcome, clean, [1, 1, 1, 0, 0])
    v1 = side(VictimOutcome, clean, [0, 1, 2, 0, 3])
    s2 = side(SurrogateOutcome, clean, [0, 0, 2, 0, 0])
    v2 = side(VictimOutcome, clean, [1, 0, 2, 0, 0])
    found = count([(s1, v1), (s2, v2)])  # type: ignore[list-item]
    # Image 0: the first method fools the surrogate, only the second the victim. Image 2: same class by the second only.
    assert found.cond == (2, 3)
    assert found.same == (2, 3)
    assert found.both == (4, 5)
    assert found.raw == (4, 5)
    assert count([(s1, v1)]).same == (1, 3)  # type: ignore[list-item]


def test_targeted_counts_hits_of_the_target() -> None:
    correct, target = np.ones(4, dtype=bool), 7
    after_s, after_v = np.array([7, 7, 2, 2]), np.array([7, 2, 7, 2])
    found = count(
        [(SurrogateOutcome(correct, after_s, after_s == target), VictimOutcome(correct, after_v, after_v == target))]
    )
    assert (found.cond, found.both, found.raw, found.same) == ((1, 2), (2, 4), (2, 4), (1, 2))


def test_nothing_fooled_leaves_nothing_to_divide_by() -> None:
    s, v = side(SurrogateOutcome, [0, 0], [0, 0]), side(VictimOutcome, [0, 1], [0, 1])
    found = count([(s, v)])  # type: ignore[list-item]
    assert (found.cond, found.both, found.raw, found.same) == ((0, 0), (0, 1), (1, 2), (0, 0))


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_relations_between_the_rates(seed: int, methods: int) -> None:
    generator = np.random.default_rng(seed)
    right_s, right_v = generator.random((2, 40)) < 0.8
    pairs = []
    for _ in range(methods):
        after_s, after_v = generator.integers(0, 3, (2, 40))
        pairs.append((SurrogateOutcome(right_s, after_s, after_s != 0), VictimOutcome(right_v, after_v, after_v != 0)))
    found, first = count(pairs), count(pairs[:1])
    assert found.same[0] <= found.cond[0] <= found.both[0] <= found.raw[0]
    assert found.same[1] == found.cond[1] <= found.both[1] <= found.raw[1] == 40
    for name in ("cond", "both", "raw", "same"):  # a union never does less
        assert getattr(found, name)[0] >= getattr(first, name)[0]
    s, v = pairs[0]
    assert first.cond[0] == sum(
        a and b and c and d for a, b, c, d in zip(right_s, right_v, s.fooled, v.fooled, strict=True)
    )
    white = count([(s, VictimOutcome(s.correct, s.prediction, s.fooled))])
    assert white.cond[0] == white.cond[1] == white.same[0]


def test_common_set() -> None:
    s = side(SurrogateOutcome, [0, 0, 0, 1], [1, 1, 0, 1])
    victims = [side(VictimOutcome, [0, 0, 0, 0], [0] * 4), side(VictimOutcome, [0, 1, 0, 0], [0] * 4)]
    assert eligible(s, victims).tolist() == [True, False, False, False]  # type: ignore[arg-type]
