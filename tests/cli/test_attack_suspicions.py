"""What ``attack`` says against its own result, each by a model that is made to bring it about, and --fail-on-flag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, one_line
from handmade import write_images

from advkit.attacks.dataset import AttackedBatch
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch
from advkit.attacks.verdicts import BatchVerdict, judge
from advkit.models import reference
from advkit.reports.attack import AttackSummary
from advkit.tasks.classification import CLASSIFICATION

MODELS = '''
import torch
from torch import nn


class Brightness(nn.Module):
    """Class 1 above a mean of 0.5, by ten times the distance to it; never another."""

    scale, others, noise, steps, output = 10.0, -50.0, 0.0, 0, "logits"

    def __init__(self, **changes):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        for name, value in changes.items():
            setattr(self, name, value)

    def forward(self, images):
        score = self.scale * (images.mean((1, 2, 3)) - 0.5) * self.weight
        if self.steps:  # a staircase has no slope
            score = torch.round(score * self.steps) / self.steps
        if self.noise:
            score = score + self.noise * torch.randn_like(score)
        others = torch.full((len(images), 8), self.others, device=images.device) + 0.0 * score[:, None]
        logits = torch.cat([torch.stack([-score, score], 1), others], 1)
        return logits.softmax(1) if self.output == "softmax" else logits


class Misleading(Brightness):
    def forward(self, images):  # what it says is right, its slope points the other way
        score = super().forward(images)
        return score.detach() - 0.5 * (score - score.detach())


class Stubborn(Brightness):
    def train(self, mode=True):
        return super().train(True)


def plain(): return Brightness()
def random(): return Brightness(noise=0.01)
def softmax(): return Brightness(output="softmax")
def wrong(): return Brightness(others=50.0)
def staircase(): return Brightness(steps=1)
def stubborn(): return Stubborn()
def misleading(): return Misleading()
'''


@pytest.fixture
def attack(inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(MODELS)
    write_images(Path("two.npz"), 40)

    def run(name: str, *options: str, status: int = 0) -> list[str]:
        data = ("--data", "two.npz", "-q", "-o", "a.safetensors", "--force", "--json")
        found = inside("attack", f"models.py:{name}", *data, *options)
        assert found.returncode == status, found.stderr
        result = json.loads(found.stdout)["result"]
        assert not [gate for gate in result["gates"] if gate["passed"] != (status == 0)]
        told: list[str] = result["suspicions"]
        assert set(told) <= set(json.loads(found.stdout)["flags"])
        return told

    return run


def test_nothing_is_said_where_nothing_is_wrong(attack: Any) -> None:
    assert attack("plain", "--eps", "0.3", "--fail-on-flag") == []


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("random", ["--eps", "0.3"], "random-forward"),
        ("softmax", ["--eps", "0.3"], "softmax-output"),
        ("stubborn", ["--eps", "0.3"], "train-mode"),
        ("wrong", ["--eps", "0.3"], "not clearly better than chance: other normalisation, classes or weights?"),
        ("staircase", ["--eps", "0.3"], "masked gradients, or a dead network"),
        (
            "misleading",
            ["--eps", "0.1"],
            "accuracy does not fall with eps: 32 of 32 images that resist still",
        ),
        (
            "misleading",
            ["--eps", "0.1", "--norm", "l2"],
            "resist still do at 4, where a grey image is in reach",
        ),
        ("staircase", ["--eps", "0.3", "--method", "autoattack:steps=3:queries=300"], "gradients may be masked"),
    ],
)
def test_each_suspicion_and_its_gate(model: str, options: list[str], words: str, attack: Any) -> None:
    told = attack(model, *options)
    assert any(words in line for line in told), told
    assert attack(model, *options, "--fail-on-flag", status=1) == told


def summary(moved: float, eps: float, towards: float = 1.0, method: str = "pgd", change: Any = None) -> AttackSummary:
    """Of one batch of :func:`verdict`."""
    found = AttackSummary(["M"], AttackParams(parse_method(method), eps=eps), CLASSIFICATION)
    found.add(verdict(moved, eps, towards, method, change))
    return found


def verdict(moved: float, eps: float, towards: float = 1.0, method: str = "pgd", change: Any = None) -> BatchVerdict:
    """Of images at 0.45 and 0.55 that are ``moved`` ``towards`` the threshold (1), or away from it (-1)."""
    network = reference.load("models.py:plain", num_classes=10, input_size=(1, 8, 8))
    clean = torch.tensor([0.45, 0.55]).repeat(8).view(16, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    labels = torch.tensor([0, 1]).repeat(8)
    way = torch.where(labels == 0, 1.0, -1.0).view(-1, 1, 1, 1) * towards
    nothing = torch.zeros(16, dtype=torch.bool)
    batch = AttackBatch(clean, 16, 16, nothing, nothing)
    params = AttackParams(parse_method(method), eps=eps)
    written = clean + moved * way
    if change is not None:
        change(written, labels)
    done = AttackedBatch(clean, written, labels, torch.arange(16), labels, batch, 0.1)
    return judge(done, [network], params, "cpu", False)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(MODELS)


@pytest.mark.usefixtures("models")
def test_a_budget_that_is_exceeded_in_what_is_written() -> None:
    assert summary(0.1, 0.1).suspicions(10) == []
    assert summary(0.2, 0.1).suspicions(10) == ["budget exceeded: linf 0.2 is written, eps is 0.1"]


@pytest.mark.usefixtures("models")
def test_pixels_that_are_no_numbers() -> None:
    def spoilt(written: torch.Tensor, labels: torch.Tensor) -> None:
        written[3, 0, 2, 2] = torch.nan

    assert "1 of the images written hold values that are no numbers" in summary(0.1, 0.1, change=spoilt).suspicions(10)


@pytest.mark.usefixtures("models")
def test_noise_that_fools_as_often() -> None:
    """Noise of 0.45 moves a mean of 64 pixels by about 0.06, beyond the 0.05 to the threshold now and then."""
    assert summary(0.45, 0.45).suspicions(10) == []
    (told,) = summary(0.45, 0.45, -1.0).suspicions(10)
    assert told.startswith("M: noise of the same norm fools ")
    assert told.endswith("of 16 images, the attack 0: no attack is needed, or this one does not work")

    def mislabelled(written: torch.Tensor, labels: torch.Tensor) -> None:
        labels[:8] = 1 - labels[:8]  # now the first eight are wrong already

    result = summary(0.45, 0.45, change=mislabelled).result(Path("a.safetensors"), False, 0, ["c"] * 10)
    noise = result.surrogates[0].noise_success
    assert noise is not None
    assert noise.successes <= noise.total == 8
    assert result.norms.fooled == 8
    assert result.norms.linf_median_fooled == pytest.approx(0.45)


@pytest.mark.usefixtures("models")
def test_without_a_radius_noise_is_as_large_as_each_perturbation() -> None:
    """Every pixel is moved by 0.06; noise of that size moves the mean by 0.008 and fools none."""
    told = summary(0.06, float("inf"), method="fmn")
    assert told.suspicions(10) == []
    noise = told.result(Path("a.safetensors"), False, 0, ["c"] * 10).surrogates[0].noise_success
    assert noise is not None
    assert noise.successes == 0
    missed = summary(0.0, float("inf"), method="fmn").suspicions(10)
    assert missed == ["nothing found on 16 of 16 images at any distance: more steps are needed"]


def test_few_images_all_right_are_not_near_chance(attack: Any) -> None:
    assert attack("plain", "--eps", "0.3", "--limit", "2", "--fail-on-flag") == []


@pytest.mark.usefixtures("models")
def test_autoattack_of_few_classes_says_what_it_leaves_out() -> None:
    found = summary(0.1, 0.1)
    found._stages = {"apgd-ce": 3, "fab-t": 0, "square": 0}
    assert (
        found.suspicions(3)[-1] == "apgd-t is left out, whose loss needs 4 classes, not 3: not the standard AutoAttack"
    )


def test_what_has_no_use_for_a_goal_or_has_one_norm(attack: Any, inside: Run) -> None:
    data = ["--data", "two.npz", "--limit", "4", "-q", "-o", "a.safetensors", "--force"]
    told = one_line(inside("attack", "models.py:plain", *data, "--method", "autoattack", "--goal", "transfer"))
    assert "--goal transfer: autoattack looks for the worst case of each image; leave it out" in told
    found = inside("attack", "models.py:plain", *data, "--method", "ddn:steps=5", "--json")
    assert json.loads(found.stdout)["params"]["norm"] == "l2"
    told = one_line(inside("attack", "models.py:plain", *data, "--method", "ddn", "--norm", "linf"))
    assert "ddn has l2 only" in told


def test_a_detector_that_finds_nothing_is_told(inside: Run, tmp_path: Path) -> None:
    options = ["--data", "scenes/photo#test", "--limit", "4", "--eps", "2/255", "--steps", "1", "--fail-on-flag", "-q"]
    done = inside("attack", "advkit/tiny-ssd", *options, "-o", tmp_path / "a.safetensors")
    assert done.returncode == 1, done.stderr
    (flag,) = json.loads(done.stdout)["result"]["suspicions"]
    assert "tiny-ssd: mAP@.5 0.0" in flag
    assert "on the clean images: other normalisation, classes or weights?" in flag
