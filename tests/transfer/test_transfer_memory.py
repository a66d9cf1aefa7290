"""A matrix keeps nothing of a batch but a few bits of each image, in arrays made beforehand."""

from __future__ import annotations

import weakref

import pytest
import torch

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data.reference import load
from advkit.models.build import create
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.prediction import predict_all
from advkit.tasks.sampling import limited
from advkit.transfer import matrix


def test_the_parts_of_past_batches_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays kept from every batch pin the heap between the large ones: memory would grow with the images."""
    torch.set_num_threads(1)
    data = limited(CLASSIFICATION, load("digits"), 60, 0)
    networks = [create("advkit/cnn", num_classes=10, input_size=data.size, seed=seed).eval() for seed in (0, 1)]
    params = AttackParams(parse_method("fgsm"), eps=0.1)
    plan = matrix.Plan(["a", "b"], networks, networks, [0, 1], [params], None, True, 10, "cpu")
    kept: list[weakref.ref[object]] = []
    alive: list[int] = []
    measure_batch = matrix.measure_batch

    def watched(*arguments: object) -> matrix.BatchOutcomes:
        alive.append(sum(reference() is not None for reference in kept))
        part = measure_batch(*arguments)  # type: ignore[arg-type]
        kept.extend(weakref.ref(found) for found in (part.correct, part.costs, part.verdicts[0].fooled))
        return part

    monkeypatch.setattr(matrix, "measure_batch", watched)
    found = matrix.measure(plan, data, lambda done: None)
    assert len(alive) == 6
    assert max(alive) <= 3, "the last part may live, older ones may not"
    images, targets = data.batch(slice(None))
    assert (found.correct == (predict_all(networks, images) == targets).numpy()).all()
    assert {row.victims.fooled.dtype for row in found.attempts} == {torch.zeros(0, dtype=torch.bool).numpy().dtype}
