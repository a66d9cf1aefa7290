"""Linear models, whose strongest perturbation is known: every method must find it, and a broken one must not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.methods import Method, parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm
from advkit.tasks import classification
from advkit.tasks.classification import Classification

SIDE, KERNEL, CHANNELS = 12, 5, 3
MODIFIERS = ("fgsm", "pgd", "mi", "ni", "di", "ti", "si")  # the others have views of their own: test_attacks_views.py


def _compositions() -> list[str]:
    """Every subset of the modifiers that has a meaning, by its canonical name."""
    found = {}
    for size in range(1, len(MODIFIERS) + 1):
        for names in combinations(MODIFIERS, size):
            try:
                found[parse_method(",".join(names)).name] = None
            except InputError:
                continue
    return list(found)


METHODS = _compositions()


class Linear(nn.Module):
    """Two classes; logits -s and s with s = scale * <w, x - 0.5>."""

    def __init__(self, weight: Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.weight, self.scale = weight, scale

    def forward(self, images: Tensor) -> Tensor:
        score = self.scale * ((images - 0.5) * self.weight).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def with_parameters(name: str, parameters: dict[str, str]) -> Method:
    """The method called ``name``, with parameters for those of its parts that have them."""
    return parse_method(",".join(f"{p}:{parameters[p]}" if p in parameters else p for p in name.split(",")))


def eigen_weight() -> Tensor:
    """Weights of both signs that the Gaussian of ti only rescales, so that the optimum stays where it was.

    The filter is K x K^T for a symmetric Toeplitz matrix K; the outer product of two of its eigenvectors is an
    eigenimage. The second eigenvector is odd, hence without zeros on an even side.
    """
    line = torch.exp(-0.5 * torch.linspace(-3, 3, KERNEL, dtype=torch.float64) ** 2)
    line /= line.sum()
    place = torch.arange(SIDE)
    offset = place[:, None] - place[None, :] + KERNEL // 2
    matrix = torch.where((offset >= 0) & (offset < KERNEL), line[offset.clamp(0, KERNEL - 1)], 0.0)
    values, vectors = torch.linalg.eigh(matrix)
    assert values[-2] > 0.1
    image = torch.outer(vectors[:, -1], vectors[:, -2])
    weight = torch.stack([image, -2.0 * image, 0.5 * image])
    assert weight.abs().min() > 1e-4 * weight.abs().max()
    assert (weight > 0).any()
    assert (weight < 0).any()
    return (weight / weight.norm() * 3).float()


def near_grey(count: int = 4) -> tuple[Tensor, Tensor]:
    """Images so near 0.5 that the box never binds, and labels of both classes."""
    generator = torch.Generator().manual_seed(1)
    images = 0.5 + 0.1 * (torch.rand(count, CHANNELS, SIDE, SIDE, generator=generator) - 0.5)
    return images, torch.arange(count) % 2


def optimum(images: Tensor, weight: Tensor, classes: Tensor, eps: float, norm: Norm, targeted: bool) -> Tensor:
    upward = (classes == 1) if targeted else (classes == 0)
    toward = torch.where(upward, 1.0, -1.0).view(-1, 1, 1, 1)
    if norm == "l1":
        best = weight.abs() == weight.abs().max()
        return images + eps * toward * weight.sign() * best / best.sum()
    unit = weight.sign() if norm == "linf" else weight / weight.norm()
    return images + eps * toward * unit


def check(name: str, norm: Norm, targeted: bool, *, loss: str = "ce", far: bool = True) -> None:
    """Attack the linear model and demand the optimum.

    ``far`` takes steps that would leave the ball, so that the projection matters; otherwise steps are the method's own.
    """
    images, classes = near_grey()
    weight, eps = eigen_weight(), (0.1 if norm == "linf" else 1.0)
    method = with_parameters(name, {"di": "probability=0", "ti": f"kernel={KERNEL}"})
    params = AttackParams(
        method,
        eps=eps,
        norm=norm,
        steps=30 if "pgd" in method else 6,
        step_size=(3 * eps if "fgsm" in method else eps) if far else None,
        loss=loss,
        targeted=targeted,
    )
    # So flat that cross-entropy does not saturate at the far points where ni looks.
    found = attack([Linear(weight, 0.01)], images, classes, torch.arange(len(images)), params)
    expected = optimum(images, weight, classes, eps, norm, targeted)
    assert float((found.images - expected).abs().max()) < 2e-6
    assert not found.zero_gradients.any()
    assert not found.dead.any()
    copies = int(method.of("si").get("scales") or 1)
    assert found.backwards == found.forwards == len(images) * params.step_count * copies


def test_compositions_hold_every_modifier_alone_and_more() -> None:
    assert set(MODIFIERS) - {"ni"} <= set(METHODS)  # ni means mi,ni
    assert "mi,ni" in METHODS
    assert "pgd,mi,ni,di,ti,si" in METHODS
    assert "fgsm,di,ti,si" in METHODS


@pytest.mark.parametrize(
    ("norm", "targeted"),
    [
        ("linf", False),
        ("l2", True),
        pytest.param("linf", True, marks=pytest.mark.slow),
        pytest.param("l2", False, marks=pytest.mark.slow),
    ],
    ids=["linf-untargeted", "l2-targeted", "linf-targeted", "l2-untargeted"],
)
@pytest.mark.parametrize("name", METHODS)
def test_reaches_the_optimum(name: str, norm: Norm, targeted: bool) -> None:
    check(name, norm, targeted)


@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "mi", "ni", "di", "ti", "si", "mi,di,ti", "mi,ni,di,ti,si"])
def test_own_step_size_covers_the_ball(name: str, norm: Norm, targeted: bool) -> None:
    check(name, norm, targeted, far=False)


def test_pgd_own_step_size_covers_the_ball() -> None:
    check("pgd", "linf", False, far=False)


@pytest.mark.parametrize("loss", ["margin", "logit"])
@pytest.mark.parametrize("targeted", [False, True], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi", "mi,ni,di,ti,si"])
def test_other_losses_reach_it_too(name: str, norm: Norm, targeted: bool, loss: str) -> None:
    check(name, norm, targeted, loss=loss)


@pytest.mark.parametrize("name", ["di", "ti", "mi,di,ti", "pgd,mi,ni,di,ti,si", "fgsm,di,ti"])
def test_filters_at_full_strength_keep_the_sign_of_positive_weights(name: str) -> None:
    """Averages of positive numbers are positive, whatever resize or Gaussian made them: the Linf optimum is known."""
    images, _ = near_grey()
    weight = torch.rand(CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) + 0.05
    labels = torch.zeros(len(images), dtype=torch.int64)
    params = AttackParams(
        with_parameters(name, {"di": "probability=1", "ti": "kernel=7"}), eps=0.1, steps=6, step_size=0.1
    )
    found = attack([Linear(weight, 0.1)], images, labels, torch.arange(len(images)), params).images
    # Every pixel is sampled: shrink 0.9 steps over none of them.
    assert float((found - (images + 0.1)).abs().max()) < 2e-6


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi", "ni", "si"])
def test_where_the_box_binds_the_optimum_is_clipped(name: str) -> None:
    images = torch.rand(4, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    weight, classes = eigen_weight(), torch.tensor([0, 1, 0, 1])
    params = AttackParams(parse_method(name), eps=0.4, steps=10, step_size=0.9 if name == "fgsm" else 0.4)
    found = attack([Linear(weight, 0.1)], images, classes, torch.arange(4), params).images
    expected = optimum(images, weight, classes, 0.4, "linf", False).clamp(0, 1)
    assert (expected == 0).any()
    assert (expected == 1).any()
    assert float((found - expected).abs().max()) < 2e-6


def test_ensemble_follows_the_mean_of_the_logits() -> None:
    """Of two linear models with weights a and b, the mean's optimum is that of a + b, not of either."""
    generator = torch.Generator().manual_seed(4)
    a, b = (torch.randn(CHANNELS, SIDE, SIDE, generator=generator) * 0.05 for _ in range(2))
    images, classes = near_grey()
    for norm, eps in (("linf", 0.1), ("l2", 1.0)):
        params = AttackParams(parse_method("mi"), eps=eps, norm=norm, steps=5, step_size=eps)  # type: ignore[arg-type]
        found = attack([Linear(a), Linear(b)], images, classes, torch.arange(4), params)
        expected = optimum(images, a + b, classes, eps, norm, False)  # type: ignore[arg-type]
        assert float((found.images - expected).abs().max()) < 1e-5
        assert found.backwards == 4 * 5 * 2


def test_identity_is_the_clean_image_and_noise_has_full_norm() -> None:
    images, classes = near_grey(16)
    network = Linear(eigen_weight())
    for norm, eps in (("linf", 0.1), ("l2", 1.0), ("l1", 9.0)):
        for name in ("identity", "noise"):
            params = AttackParams(parse_method(name), eps=eps, norm=norm)  # type: ignore[arg-type]
            found = attack([network], images, classes, torch.arange(16), params)
            assert found.forwards == found.backwards == 0
            length = flat_norm(found.images - images, norm)  # type: ignore[arg-type]
            if name == "identity":
                assert torch.equal(found.images, images)
            else:
                assert float((length - eps).abs().max()) < 1e-5
    # Noise knows nothing of the weights: it moves the score by far less than the optimum does, and to both sides.
    params = AttackParams(parse_method("noise"), eps=0.1)
    moved = network(attack([network], images, classes, torch.arange(16), params).images) - network(images)
    most = float(0.1 * eigen_weight().abs().sum())
    assert float(moved.abs().max()) < 0.3 * most
    assert (moved[:, 1] > 0).any()
    assert (moved[:, 1] < 0).any()


def _no_step(gradient: Tensor, norm: Norm) -> Tensor:
    return torch.zeros_like(gradient)


def _backwards(gradient: Tensor, norm: Norm, *, real: Callable[..., Tensor] = budget.steepest_ascent) -> Tensor:
    return -real(gradient, norm)


def _other_norm(gradient: Tensor, norm: Norm, *, real: Callable[..., Tensor] = budget.steepest_ascent) -> Tensor:
    return real(gradient, "l2" if norm == "linf" else "linf")


def _wide_ball(
    moved: Tensor, images: Tensor, eps: float, norm: Norm, *, real: Callable[..., Tensor] = budget.project
) -> Tensor:
    return real(moved, images, 2 * eps, norm)


def _narrow_ball(
    moved: Tensor, images: Tensor, eps: float, norm: Norm, *, real: Callable[..., Tensor] = budget.project
) -> Tensor:
    return real(moved, images, 0.98 * eps, norm)


def _target_ignored(
    logits: Tensor, classes: Tensor, targeted: bool, *, real: Callable[..., Tensor] = classification.cross_entropy
) -> Tensor:
    return real(logits, classes, False)


def _one_neighbour_for_all(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    return classification.cross_entropy(logits, classes[:1].expand_as(classes), targeted)


MUTATIONS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "no step": ("steepest_ascent", _no_step),
    "wrong sign": ("steepest_ascent", _backwards),
    "step of the other norm": ("steepest_ascent", _other_norm),
    "doubled ball": ("project", _wide_ball),
    "ball too small by 2 %": ("project", _narrow_ball),
}


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "mi", "ni", "di", "ti", "si", "pgd,mi,ni,di,ti,si"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_check_fails_on_a_broken_attack(mutation: str, name: str, norm: Norm, monkeypatch: pytest.MonkeyPatch) -> None:
    where, broken = MUTATIONS[mutation]
    if mutation == "step of the other norm" and norm == "linf":
        # Under Linf an L2 step only moves more slowly; many of them end in the same corner, so one must not suffice.
        name = "fgsm"
    monkeypatch.setattr(budget, where, broken)
    with pytest.raises(AssertionError):
        check(name, norm, targeted=False)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("broken", [_target_ignored, _one_neighbour_for_all])
def test_check_fails_on_a_broken_loss(
    broken: Callable[..., Tensor], norm: Norm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Classification.attack_losses, "ce", broken)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        check("mi", norm, targeted=True)
