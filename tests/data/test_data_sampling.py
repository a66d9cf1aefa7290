"""Samples keep the classes in proportion, whatever the labels."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.data.sampling import hold_out, stratified

LABELS = st.lists(st.integers(0, 7), min_size=1, max_size=120).map(torch.tensor)
SEEDS = st.integers(-(2**40), 2**40)
quick = settings(max_examples=80, deadline=None)


@quick
@given(LABELS, st.integers(1, 150), SEEDS)
def test_sample_is_exact_sorted_and_in_proportion(labels, count, seed):
    rows = stratified(labels, count, seed)
    assert len(rows) == min(count, len(labels))
    assert bool((rows.diff() > 0).all())
    assert 0 <= int(rows.min()) <= int(rows.max()) < len(labels)
    share = torch.bincount(labels, minlength=8).double() * len(rows) / len(labels)
    got = torch.bincount(labels[rows], minlength=8).double()
    assert float((got - share).abs().max()) < 1


@quick
@given(LABELS, st.integers(1, 150), SEEDS)
def test_sample_is_a_function_of_the_seed(labels, count, seed):
    assert torch.equal(stratified(labels, count, seed), stratified(labels.clone(), count, seed))


def test_seeds_differ_and_every_image_has_its_chance():
    labels = torch.arange(40) % 4
    drawn = torch.cat([stratified(labels, 8, seed) for seed in range(60)])
    assert torch.bincount(drawn, minlength=40).min() > 0
    assert len({tuple(stratified(labels, 8, seed).tolist()) for seed in range(20)}) == 20


def test_sampling_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    stratified(torch.arange(20) % 2, 6, 3)
    assert torch.equal(before, torch.get_rng_state())


@quick
@given(LABELS, st.floats(0, 0.999), SEEDS)
def test_held_out_part_and_rest_make_the_whole(labels, fraction, seed):
    rest, held = hold_out(labels, fraction, seed)
    assert torch.equal(torch.cat([rest, held]).sort().values, torch.arange(len(labels)))
    assert bool((rest.diff() > 0).all())
    assert bool((held.diff() > 0).all())
    assert len(rest) >= 1
    assert len(held) == min(max(1, round(fraction * len(labels))), len(labels) - 1) if fraction > 0 else len(held) == 0


def test_held_out_part_is_another_draw_than_the_sample():
    labels = torch.arange(1000) % 10
    assert not torch.equal(hold_out(labels, 0.1, 5)[1], stratified(labels, 100, 5))
    assert torch.bincount(labels[hold_out(labels, 0.1, 5)[1]]).tolist() == [10] * 10


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_fractions_that_make_no_sense(fraction):
    with pytest.raises(ValueError, match="fraction"):
        hold_out(torch.arange(5), fraction, 0)
