"""The controls beside a transfer rate are what they are called: counted by hand on attempts made by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from advkit.reports.transfer_matrix import _pair
from advkit.tasks.classification import CLASSIFICATION
from advkit.transfer.outcomes import AttackPredictions, Matrix, SurrogateRun


def attempt(method: str, victims: list[int], flipped: list[int], noise: list[int]) -> SurrogateRun:
    """Five images of class 0, surrogate 0 fooled on the first four; predictions of victim 1 as given."""
    own, zeros = torch.tensor([1, 1, 1, 1, 0]), torch.zeros(5, dtype=torch.int64)

    def both(predictions: list[int]) -> Tensor:
        return torch.stack([own, torch.tensor(predictions)])

    seen = AttackPredictions(both(victims), both(flipped), both(noise))
    verdicts, correct = seen.verdicts(CLASSIFICATION, own, zeros, False), np.array([True] * 5)
    return SurrogateRun("S", method, np.arange(5), "linf", 0.1, "transfer", (0,), correct, (own != 0).numpy(), verdicts)


def test_flipped_and_noise_are_not_mixed_up_and_unions_take_the_best_of_each() -> None:
    one = attempt("pgd", victims=[1, 2, 0, 0, 2], flipped=[0, 0, 2, 0, 1], noise=[0, 0, 0, 0, 1])
    two = attempt("mi", victims=[0, 0, 2, 0, 0], flipped=[0, 0, 0, 0, 0], noise=[2, 0, 0, 2, 0])
    clean = np.zeros((2, 5), np.int64)
    clean[1, 1] = 3  # the victim is wrong on the second image, which does not count
    found = Matrix(clean == 0, clean == -1, [one, two], None, 0.0)
    single, union = _pair(found, "pgd", [one], 1, "V"), _pair(found, "union", [one, two], 1, "V")
    counts = {name: getattr(single, name) for name in ("cond", "both", "raw", "same", "flipped", "noise")}
    assert {name: (rate.successes, rate.total) for name, rate in counts.items()} == {
        "cond": (1, 3),
        "both": (2, 4),
        "raw": (3, 5),
        "same": (1, 3),
        "flipped": (1, 3),
        "noise": (0, 3),
    }
    assert (union.cond.successes, union.flipped.successes, union.noise.successes) == (2, 1, 2)


def test_noise_of_a_union_is_drawn_once_for_each_method() -> None:
    from advkit.attacks.methods import parse_method
    from advkit.attacks.params import AttackParams
    from advkit.data import reference
    from advkit.models.build import create
    from advkit.tasks.sampling import limited
    from advkit.transfer.matrix import Plan, measure

    data = limited(CLASSIFICATION, reference.load("digits"), 40, 0)
    networks = [create("advkit/cnn", num_classes=10, input_size=data.size, seed=seed).eval() for seed in (0, 1)]
    params = [AttackParams(parse_method(name), eps=0.5, steps=1) for name in ("fgsm", "mi")]
    plan = Plan(["A", "B"], networks, networks, [0, 1], params, None, False, 16, "cpu")
    with torch.no_grad():
        found = measure(plan, data, lambda done: None)
    first, second, third, fourth = (one.victims.noise for one in found.attempts)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)
    assert np.array_equal(second, fourth)
