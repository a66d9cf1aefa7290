"""The controls of a ready-made set are those of the attack that made it: same noise, same flip, image by image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data import reference
from advkit.files.adversarial import AdversarialSet
from advkit.models.build import create
from advkit.models.network import Network
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.prediction import predict_all
from advkit.tasks.sampling import limited
from advkit.transfer.matrix import Plan, measure
from advkit.transfer.precomputed import precomputed

COUNT, BATCH = 40, 16  # the last batch is not full
PARAMS = {
    "linf": AttackParams(parse_method("pgd"), eps=0.5, steps=2, seed=5),
    "l2": AttackParams(parse_method("pgd"), eps=3.0, norm="l2", steps=2, seed=5),
    "l1": AttackParams(parse_method("pgd"), eps=20.0, norm="l1", steps=2, seed=5),
}


def random_planes(seed: int) -> Network:
    """A linear network with random weights, which noise moves from class to class."""
    network = create("advkit/cnn", num_classes=10, input_size=(1, 8, 8), seed=seed)
    linear = nn.Linear(64, 10)
    generator = torch.Generator().manual_seed(seed)
    linear.weight.data = torch.randn(10, 64, generator=generator)
    linear.bias.data = -0.3 * linear.weight.data.sum(1)
    network.net = nn.Sequential(nn.Flatten(), linear)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("norm", PARAMS)
def test_controls_are_those_of_the_attack_that_made_the_set(norm: str) -> None:
    attacked = PARAMS[norm]
    data = limited(CLASSIFICATION, reference.load("digits"), COUNT, 0)
    networks = [random_planes(seed) for seed in (1, 2)]
    plan = Plan(["A", "B"], networks, networks, [0], [attacked], None, False, BATCH, "cpu")
    (fresh,) = measure(plan, data, lambda done: None).attempts

    images, labels = data.batch(slice(None))
    moved = attack([networks[0]], images, labels, data.indices, attacked).images
    order = torch.arange(COUNT).flip(0)  # a set may be in another order than the data
    labels, indices, own = labels[order], data.indices[order], predict_all(networks, moved)[0][order]
    meta, outcome = {"attack": attacked.to_json()}, torch.ones(COUNT)
    made = AdversarialSet(Path("made"), meta, labels, indices, labels, own, outcome, lambda rows: moved[order][rows])
    read = precomputed(plan, data, made, "made", (0,), order, lambda adversarial, clean: None)

    for name in ("fooled", "alike", "not_finite", "flipped", "noise"):
        assert np.array_equal(getattr(read.victims, name), getattr(fresh.victims, name)[:, order]), name

    def noise(indices: Tensor, params: AttackParams) -> np.ndarray:
        noisy = budget.noise(images, indices, params.eps, params.norm, params.seed)
        return (predict_all(networks, noisy) != data.targets).numpy()

    assert np.array_equal(fresh.victims.noise, noise(data.indices, attacked))
    others = {
        "smaller": noise(data.indices, replace(attacked, eps=0.25 * attacked.eps)),
        "of the other norm": noise(data.indices, replace(attacked, norm="linf" if norm == "l2" else "l2")),
        "of another seed": noise(data.indices, replace(attacked, seed=0)),
        "of other images": noise(torch.arange(COUNT) % BATCH, attacked),
    }
    for name, other in others.items():
        assert not np.array_equal(fresh.victims.noise, other), f"noise {name} looks the same: this test shows nothing"
    assert not np.array_equal(fresh.victims.fooled, fresh.victims.flipped)
