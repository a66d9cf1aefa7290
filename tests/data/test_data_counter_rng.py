"""Named random streams: no two uses share one."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path

import pytest
import torch

from advkit.data import counter_rng

# What draws numbers, and how far each of its counters goes.
USES = {
    "augment": [range(2000)],
    "misalign noise": [range(2000)],
    "misalign pgd": [range(20), range(2000)],  # seed, epoch
    "random start": [range(100)],  # restart
    "random radius": [range(100)],
    "di": [range(20), range(200), range(6)],  # restart, step, copy
    "square start": [range(20)],
    "square signs": [range(20), range(2000)],  # restart, step
    "noise": [()],
    "target": [()],
    "smoothgrad": [range(512)],
    "adversarial training": [range(20), range(2000)],  # seed, epoch
    "adversarial ratio": [range(2000)],
    "trades start": [range(20), range(2000)],
    "robust check": [range(20)],
    "bootstrap over images": [()],
    "source domain": [range(20)],  # seed
    "target domain": [range(20), range(200)],  # seed, contents
    "draw of domain": [range(20), range(200)],  # domain, draw
    "resample of domain": [range(20)],  # domain
    "measures of domains": [range(20), range(200)],  # seed, draw
    "target order": [range(20)],  # seed
    "target augmentation": [range(20)],
    "scored target images": [range(20)],
    "apgd start": [range(1000)],
    "vmi": [range(10), range(100), range(20)],  # restart, step, sample
    "vmi radius": [range(10), range(100), range(20)],
    "ssa mask": [range(2)],  # another stream
    "admix": [range(10), range(100), range(3)],  # restart, step, partner
    "admix pool": [()],
    "domain classifier": [range(20)],
    "local domain classifier": [range(20)],
    "global domain classifier": [range(20)],
    "strong view": [range(2000)],  # epoch
    "strong view noise": [range(2000)],
    "feature noise": [()],
    "dropout": [range(5), range(2000), range(1, 5)],  # seed, step, rank
}


def test_no_two_purposes_collide() -> None:
    keys = [(use, *numbers) for use, ranges in USES.items() for numbers in itertools.product(*filter(None, ranges))]
    assert len(keys) > 100_000
    assert len({counter_rng.stream(*key) for key in keys}) == len(keys)


def test_every_use_is_listed_here() -> None:
    """A purpose written in the code comes into :data:`USES`; transforms of attacks go by their names there."""
    found = set()
    for path in Path(counter_rng.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "counter_rng.stream":
                found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    assert {"augment", "noise"} < found <= set(USES)


def test_a_stream_is_a_function_of_its_name_and_numbers() -> None:
    assert counter_rng.stream("augment", 3) == 0xAB9D148AA2978B77
    assert counter_rng.stream("augment", 3) != counter_rng.stream("augment", 3, 0)
    assert counter_rng.stream("a", 11, 1) != counter_rng.stream("a", 1, 11) != counter_rng.stream("a", 111)
    assert 0 <= counter_rng.stream("augment") < 2**64


@pytest.mark.parametrize("other", [("augment", 1), ("start", 0), ("augment",)])
def test_streams_give_independent_numbers(other: tuple[str, int]) -> None:
    images = torch.arange(400)
    a, b = (counter_rng.uniform(0, images, counter_rng.stream(*use), 50) for use in (("augment", 0), other))
    assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.03
