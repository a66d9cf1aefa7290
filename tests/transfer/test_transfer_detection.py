"""A transfer matrix between detectors: average precisions of every victim, on detectors made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data.images import ImageSet
from advkit.models.build import create
from advkit.models.network import Network
from advkit.reports.transfer_matrix import TransferMatrixResult, collect
from advkit.reports.transfer_matrix_table import table
from advkit.tasks.detection import DETECTION
from advkit.tasks.prediction import predict
from advkit.transfer import matrix

COUNT = 20
BOX = [2.0, 3.0, 12.0, 13.0]


@dataclass
class Glow:
    """One box where the image is bright: finds it from a score of 0.5 on."""

    brightness: Tensor

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        return {"cls": F.softplus(-self.brightness), "loc": 0.0 * self.brightness}

    def predictions(self) -> Tensor:
        score = self.brightness.detach().sigmoid()
        rows = torch.zeros(len(score), 3, 6)
        rows[..., 5] = -1.0
        rows[:, 0] = torch.cat([torch.tensor(BOX).expand(len(score), 4), score[:, None], 0 * score[:, None]], 1)
        rows[score < 0.5] = torch.tensor([0.0, 0, 0, 0, 0, -1])
        return rows

    def scores(self) -> Tensor:
        return self.brightness.sigmoid()[:, None]

    def detach(self) -> Self:
        return replace(self, brightness=self.brightness.detach())


class BrightBox(nn.Module):
    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Glow:
        return Glow(20.0 * (images.mean((1, 2, 3)) - self.threshold))


def detector(threshold: float) -> Network:
    spec = create("advkit/cnn", num_classes=1, input_size=(1, 16, 16), seed=0).spec
    return Network(BrightBox(threshold), replace(spec, task="detection", mean=(0.0,), std=(1.0,))).eval()


def images() -> ImageSet:
    """Of brightness 0.55 to 0.65, each with one object where the detectors look."""
    pixels = torch.linspace(0.55, 0.65, COUNT)[:, None, None, None].expand(COUNT, 1, 16, 16).contiguous()
    targets, rows = torch.tensor([*BOX, 0.0, 0.0]).expand(COUNT, 1, 6).contiguous(), torch.arange(COUNT)
    return ImageSet("made", "", ("box",), (1, 16, 16), targets, rows, rows, lambda part: pixels[part], task="detection")


NAMES = ["A", "B", "copy of A"]
THRESHOLDS = (0.5, 0.41, 0.5)  # an attack of 0.2 takes all boxes from A, and from B those of the darker images


def plan(eps: float, *methods: str) -> matrix.Plan:
    networks = [detector(threshold) for threshold in THRESHOLDS]
    params = [AttackParams(parse_method(name), eps=eps, steps=2, loss="sum") for name in methods or ("pgd",)]
    return matrix.Plan(NAMES, networks, list(networks), [0, 1], params, None, True, 8, "cpu")


def report(wanted: matrix.Plan) -> TransferMatrixResult:
    data = images()
    return collect(wanted, matrix.measure(wanted, data, lambda done: None), data, [("A", "A", "B")])


def precision(network: Network, pixels: Tensor) -> float:
    metric = DETECTION.metric(1)
    metric.update(predict([network], pixels), images().targets)
    found: float = metric.compute()["map50"]
    return found


@pytest.fixture(scope="module")
def found() -> TransferMatrixResult:
    return report(plan(0.2))


def test_the_precisions_are_those_of_the_attacked_images(found: TransferMatrixResult) -> None:
    """Again from an attack made here."""
    assert found.detection is not None
    wanted, data = plan(0.2), images()
    pixels, targets = data.batch(slice(None))
    assert [one.precision.map50 for one in found.detection.clean] == [1.0, 1.0, 1.0]
    noise = budget.noise(pixels, data.indices, 0.2, "linf", 0)
    pairs = iter(found.detection.pairs)
    for surrogate in (0, 1):
        moved = attack([wanted.networks[surrogate]], pixels, targets, data.indices, wanted.params[0]).images
        for victim, network in enumerate(wanted.networks):
            pair = next(pairs)
            assert (pair.surrogate, pair.victim, pair.method) == (NAMES[surrogate], NAMES[victim], "pgd")
            assert pair.white_box == (surrogate == victim)
            assert pair.adversarial.map50 == pytest.approx(precision(network, moved))
            assert pair.noise.map50 == pytest.approx(precision(network, noise)) == 1.0
    of_a = {pair.victim: pair.adversarial.map50 for pair in found.detection.pairs if pair.surrogate == "A"}
    assert of_a["A"] == 0.0
    assert of_a["B"] is not None
    assert 0.2 < of_a["B"] < 0.8, "transfer in part, or this test shows little"


def test_a_copy_of_the_surrogate_has_its_precisions(found: TransferMatrixResult) -> None:
    assert found.detection is not None
    pairs = {(pair.surrogate, pair.victim): pair for pair in found.detection.pairs}
    for surrogate in ("A", "B"):
        one, copy = pairs[surrogate, "A"], pairs[surrogate, "copy of A"]
        assert (one.adversarial, one.noise) == (copy.adversarial, copy.noise)


def test_rates_count_images_of_which_all_objects_are_found(found: TransferMatrixResult) -> None:
    pair = next(one for one in found.pairs if (one.surrogate, one.victim) == ("A", "B"))
    lost = sum(0.55 + 0.1 * k / (COUNT - 1) - 0.2 < 0.41 for k in range(COUNT))
    assert 0 < lost < COUNT
    assert (pair.cond.successes, pair.cond.total) == (lost, COUNT)
    assert pair.noise is not None
    assert pair.noise.successes == 0
    copy = next(one for one in found.pairs if (one.surrogate, one.victim) == ("A", "copy of A"))
    assert (copy.same.successes, copy.cond.successes) == (COUNT, COUNT)
    (comparison,) = found.comparisons
    assert (comparison.only_a, comparison.both, comparison.total) == (COUNT - lost, lost, COUNT)


def test_without_a_budget_all_rows_are_the_clean_one() -> None:
    found = report(plan(0.0)).detection
    assert found is not None
    clean = {one.victim: one.precision for one in found.clean}
    assert len(found.pairs) == 6
    for pair in found.pairs:
        assert pair.adversarial == pair.noise == clean[pair.victim]


def test_the_table_has_a_row_for_each_attack_and_for_the_controls(found: TransferMatrixResult) -> None:
    def rows(result: TransferMatrixResult) -> Iterator[list[str]]:
        lines = table(result, "cond", "made")
        start = lines.index("mAP@.5 of each victim, by what it is shown")
        assert max(map(len, lines)) <= 80
        yield from (line.split() for line in lines[start + 2 : lines.index("", start)])

    own = list(rows(found))
    assert [row[0] for row in own] == ["clean", "A", "B", "noise"]
    assert own[0][1:] == own[3][1:] == ["1.000"] * 3
    assert own[1][1] == "0.000*"
    assert own[2][2].endswith("*")
    several = [" ".join(row[:2]) for row in rows(report(plan(0.2, "pgd", "mi")))]
    assert several == ["clean 1.000", "A, pgd", "A, mi", "B, pgd", "B, mi", "noise, pgd", "noise, mi"]


def test_a_matrix_of_classifiers_has_no_precisions() -> None:
    pixels, rows = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(4)
    data = ImageSet("made", "", ("a", "b"), (1, 8, 8), rows % 2, rows, rows, lambda part: pixels[part])
    networks = [create("advkit/cnn", num_classes=2, input_size=data.size, seed=seed).eval() for seed in (0, 1)]
    params = [AttackParams(parse_method("fgsm"), eps=0.1)]
    wanted = matrix.Plan(["A", "B"], networks, list(networks), [0], params, None, False, 4, "cpu")
    assert collect(wanted, matrix.measure(wanted, data, lambda done: None), data, []).detection is None
