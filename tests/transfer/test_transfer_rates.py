"""The four rates, counted by hand."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from advkit.transfer.rates import SurrogateOutcome, VictimOutcome, alike, count, eligible

LABELS = np.zeros(8, dtype=np.int64)


Side = tuple[list[int], list[int]]  # classes predicted of the clean and of the adversarial images; the true one is 0


def outcomes(surrogate: Side, victim: Side) -> tuple[SurrogateOutcome, VictimOutcome]:
    (s_clean, s_after), (v_clean, v_after) = (tuple(map(np.array, side)) for side in (surrogate, victim))
    return SurrogateOutcome(s_clean == 0, s_after != 0), VictimOutcome(
        v_clean == 0, v_after != 0, alike(s_after, v_after)
    )


def test_four_rates_by_hand() -> None:
    #    0  1  2  3  4  5  6  7    0  1  2  3  4  5  6  7
    s = [0, 0, 0, 0, 0, 1, 1, 0], [1, 1, 2, 0, 0, 1, 0, 3]
    v = [0, 0, 0, 0, 0, 0, 0, 2], [1, 2, 0, 5, 0, 1, 1, 3]
    found = count([outcomes(s, v)])
    # Both right: 0-4. Surrogate fooled there: 0, 1, 2. Victim fooled: 0, 1 of those, and 3.
    assert found.cond == (2, 3)
    assert found.both == (3, 5)
    assert found.raw == (6, 8)
    assert found.same == (1, 3)


def test_union_needs_one_method_that_fools_both() -> None:
    clean = [0] * 5
    #                         0  1  2  3  4            0  1  2  3  4
    first = outcomes((clean, [1, 1, 1, 0, 0]), (clean, [0, 1, 2, 0, 3]))
    second = outcomes((clean, [0, 0, 2, 0, 0]), (clean, [1, 0, 2, 0, 0]))
    found = count([first, second])
    # Image 0: the first method fools the surrogate, only the second the victim. Image 2: same class by the second only.
    assert found.cond == (2, 3)
    assert found.same == (2, 3)
    assert found.both == (4, 5)
    assert found.raw == (4, 5)
    assert count([first]).same == (1, 3)


def test_targeted_counts_hits_of_the_target() -> None:
    correct, target = np.ones(4, dtype=bool), 7
    after_s, after_v = np.array([7, 7, 2, 2]), np.array([7, 2, 7, 2])
    victim = VictimOutcome(correct, after_v == target, alike(after_s, after_v))
    found = count([(SurrogateOutcome(correct, after_s == target), victim)])
    assert (found.cond, found.both, found.raw, found.same) == ((1, 2), (2, 4), (2, 4), (1, 2))


def test_nothing_fooled_leaves_nothing_to_divide_by() -> None:
    found = count([outcomes(([0, 0], [0, 0]), ([0, 1], [0, 1]))])
    assert (found.cond, found.both, found.raw, found.same) == ((0, 0), (0, 1), (1, 2), (0, 0))


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_relations_between_the_rates(seed: int, methods: int) -> None:
    generator = np.random.default_rng(seed)
    right_s, right_v = generator.random((2, 40)) < 0.8
    pairs = []
    for _ in range(methods):
        after_s, after_v = generator.integers(0, 3, (2, 40))
        victim = VictimOutcome(right_v, after_v != 0, alike(after_s, after_v))
        pairs.append((SurrogateOutcome(right_s, after_s != 0), victim))
    found, first = count(pairs), count(pairs[:1])
    assert found.same[0] <= found.cond[0] <= found.both[0] <= found.raw[0]
    assert found.same[1] == found.cond[1] <= found.both[1] <= found.raw[1] == 40
    for name in ("cond", "both", "raw", "same"):  # a union never does less
        assert getattr(found, name)[0] >= getattr(first, name)[0]
    s, v = pairs[0]
    assert first.cond[0] == sum(
        a and b and c and d for a, b, c, d in zip(right_s, right_v, s.fooled, v.fooled, strict=True)
    )
    white = count([(s, VictimOutcome(s.correct, s.fooled, np.ones(40, dtype=bool)))])
    assert white.cond[0] == white.cond[1] == white.same[0]


def test_common_set() -> None:
    s = [0, 0, 0, 1], [1, 1, 0, 1]
    pairs = [outcomes(s, (clean, [0] * 4)) for clean in ([0, 0, 0, 0], [0, 1, 0, 0])]
    assert eligible(pairs[0][0], [victim for _, victim in pairs]).tolist() == [True, False, False, False]


def test_predictions_of_many_numbers_are_alike_where_all_agree() -> None:
    one = np.zeros((3, 2, 6))
    other = one.copy()
    other[1, 1, 5] = 1.0
    assert alike(one, other).tolist() == [True, False, True]
