"""SGM: its gradient by hand and by another road, on every kind of residual network; what it leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_attacks_loop import Residual, Tiny
from torch import Tensor, nn

from advkit.attacks import objective as objectives
from advkit.attacks.methods import parse_method
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.attacks.sgm import branches
from advkit.files.errors import InputError
from advkit.models.build import create
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network


class Small(nn.Module):
    """Three classes, of four pixels as numbers, by ``forward``; weights from a seed."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = torch.randn(2, 4, 4, generator=generator, dtype=torch.float64)
        self.c = torch.randn(3, 8, generator=generator, dtype=torch.float64)


class Plain(Small):
    """Two linear blocks: h + A h, then h + B h."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = images.flatten(1)
        hidden = hidden + hidden @ self.a.T
        hidden = hidden + hidden @ self.b.T
        return hidden @ self.c[:, :4].T


class Projected(Small):
    """One block whose skip has a projection: B h + A tanh(A h)."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = images.flatten(1)
        return (torch.tanh(hidden @ self.a.T) @ self.a.T + hidden @ self.b.T) @ self.c[:, :4].T


class Dense(Small):
    """A dense layer: h and, beside it, A h."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = images.flatten(1)
        return torch.cat([hidden, hidden @ self.a.T], 1) @ self.c.T


def by_hand(network: Small, x: Tensor, label: int, gamma: float) -> Tensor:
    """The gradient of minus the logit of ``label`` at one image."""
    eye, wanted = torch.eye(4, dtype=torch.float64), -network.c[label]
    if isinstance(network, Plain):
        return wanted[:4] @ (eye + gamma * network.b) @ (eye + gamma * network.a)
    if isinstance(network, Dense):
        return wanted[:4] + gamma * wanted[4:] @ network.a
    slope = 1 - torch.tanh(network.a @ x.flatten()) ** 2
    return wanted[:4] @ network.b + gamma * wanted[:4] @ network.a @ (slope[:, None] * network.a)


def taken(networks: list[nn.Module], images: Tensor, labels: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """The gradient that an attack takes at ``images``, and the outputs there."""
    objective = Objective(networks, AttackParams(parse_method(method), loss="logit"), len(images), images.device)
    batch = Batch(images, labels, torch.arange(len(images)), torch.arange(len(images)))
    return objective.gradient(batch, images)


def without_hooks(*networks: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return not any(getattr(module, kind) for one in networks for module in one.modules() for kind in kinds)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", [Plain, Projected, Dense])
def test_the_gradient_of_a_block_by_hand(kind: type[Small], gamma: float) -> None:
    images = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels, network = torch.tensor([0, 1, 2]), kind()
    found, outputs = taken([network], images, labels, f"sgm:gamma={gamma}")
    plain, expected = taken([network], images, labels, "mi")
    assert torch.equal(outputs, expected)
    for place, label in enumerate(labels.tolist()):
        hand = by_hand(network, images[place], label, gamma)
        assert torch.allclose(found[place].flatten(), hand, atol=1e-12)
    assert torch.equal(found, plain) is (gamma == 1.0)


def test_an_ensemble_is_reduced_in_each_of_its_members() -> None:
    images = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2])
    found, _ = taken([Plain(), Projected(), Dense()], images, labels, "sgm:gamma=0.2")
    each = [taken([kind()], images, labels, "sgm:gamma=0.2")[0] for kind in (Plain, Projected, Dense)]
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-12)


# The last module of every residual branch, as names in the network.
ENDS: dict[str, Callable[[str], bool]] = {
    "advkit/resnet8": lambda name: name.endswith(".bn2"),
    "advkit/preact-resnet18": lambda name: name.endswith(".conv2"),
    "advkit/wrn-16-4": lambda name: name.endswith(".conv2"),
    "advkit/densenet-40-12": lambda name: "block" in name and name.endswith(".conv1"),
    "torchvision/resnet18": lambda name: name.endswith(".bn2"),
    "torchvision/resnet50": lambda name: name.endswith(".bn3"),
    "torchvision/densenet121": lambda name: "denselayer" in name.rpartition(".")[2],
    "timm/resnet18": lambda name: name.endswith(".bn2"),
    "timm/resnet26d": lambda name: name.endswith(".bn3"),
    "timm/seresnet18": lambda name: name.endswith(".se"),
}


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("name", ENDS)
def test_the_gradient_of_real_networks_by_another_road(name: str, fold: bool) -> None:
    """Branches whose output is kept but for ``1 - gamma`` of it cut off from the graph give the same gradient."""
    gamma, size = 0.3, 8 if name.startswith("advkit") else 32
    network = create(name, num_classes=4, input_size=(3, size, size), mean=(0.5,) * 3, std=(0.5,) * 3, seed=0)
    lively(network)
    model = (fuse_conv_bn(network.eval()) if fold else network.eval().requires_grad_(False)).double()
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([0, 3])
    found, outputs = taken([model], images, labels, f"sgm:gamma={gamma}")
    assert without_hooks(model)
    plain, expected = taken([model], images, labels, "mi")
    assert torch.equal(outputs, expected)
    assert not torch.allclose(found, plain, rtol=1e-2, atol=0.0)

    def cut(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        return gamma * output + (1 - gamma) * output.detach()

    ends = [module for place, module in model.net.named_modules() if ENDS[name](place)]
    assert len(ends) >= 3
    hooks = [module.register_forward_hook(cut) for module in ends]
    reference, _ = taken([model], images, labels, "mi")
    for hook in hooks:
        hook.remove()
    assert torch.allclose(found, reference, rtol=1e-8, atol=1e-10 * float(reference.abs().max()))


def lively(network: Network) -> None:
    """Batch-norms that do something: some networks start with branches that are zero."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                assert values is not None
                values.data = 0.5 + torch.rand(values.shape, generator=generator)


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("timm/vit_tiny_patch16_224", 224, 24),
        ("timm/convnext_atto", 64, 12),
        ("torchvision/mobilenet_v3_small", 64, 6),
        ("torchvision/googlenet", 64, 0),
        ("advkit/vgg11", 32, 0),
    ],
)
def test_as_many_branches_as_the_architecture_has(name: str, size: int, count: int) -> None:
    network = create(name, num_classes=4, input_size=(3, size, size), mean=(0.5,) * 3, std=(0.5,) * 3, seed=0)
    x = torch.rand(1, 3, size, size).requires_grad_()
    losses = F.cross_entropy(network.eval()(x), torch.tensor([0]), reduction="none")
    assert sum(map(len, branches(losses, x).values())) == count


class Pyramid(nn.Module):
    """Two maps, the smaller enlarged and added to the larger: two ways, of which none is a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.side, self.down, self.top = (nn.Conv2d(3, 3, 3, padding=1, stride=stride) for stride in (1, 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        small = self.top(torch.tanh(self.down(images)))
        return (self.side(images) + F.interpolate(small, scale_factor=2.0)).mean((2, 3))


def test_a_pyramid_and_two_equal_ways_are_no_branches() -> None:
    x = torch.rand(1, 3, 8, 8).requires_grad_()
    conv = nn.Conv2d(3, 3, 3, padding=1)
    assert not branches(Pyramid()(x).sum(1), x)
    assert not branches((conv(x) + torch.tanh(conv(x))).flatten(1).sum(1), x)
    assert not branches((x + 0.5 + torch.tanh(x)).flatten(1).sum(1), x)


def test_trained_weights_do_not_pass_for_branches() -> None:
    """Weights that are not frozen have a graph too, though none that leads to the image."""
    x = torch.rand(1, 3, 8, 8).requires_grad_()
    conv, offset = nn.Conv2d(3, 3, 3, padding=1), nn.Parameter(torch.zeros(1, 3, 8, 8))
    assert not branches((x + conv(offset)).flatten(1).sum(1), x)
    assert list(branches((x + conv(x + offset)).flatten(1).sum(1), x).values()) == [[1]]
    assert list(branches((conv(x) + x).flatten(1).sum(1), x).values()) == [[0]]


def test_networks_without_branches_are_refused_by_name() -> None:
    plain = create("advkit/cnn", num_classes=4, input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, seed=0).eval()
    images, labels, keys = torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.arange(2)
    for networks in ([plain], [Residual(), plain]):
        with pytest.raises(InputError, match=r"^sgm: advkit/cnn has no residual branches; .* leave it out$"):
            attack(networks, images, labels, keys, AttackParams(parse_method("mi,sgm")))
    assert attack([Residual()], images, labels, keys, AttackParams(parse_method("mi,sgm"))).forwards == 20


def test_nothing_stays_behind_even_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network = create("advkit/resnet8", num_classes=4, input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, seed=0)
    network.eval().requires_grad_(False)
    images, labels, keys = torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), torch.arange(2)
    before, logits = taken([network], images, labels, "mi")[0], network(images)
    attack([network], images, labels, keys, AttackParams(parse_method("mi,sgm:gamma=0")))
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(objectives, "gradient_by", fails)
        with pytest.raises(KeyboardInterrupt):
            attack([network], images, labels, keys, AttackParams(parse_method("sgm:gamma=0")))
    assert without_hooks(network)
    assert torch.equal(taken([network], images, labels, "mi")[0], before)
    assert torch.equal(network(images), logits)


class Doubled(Residual):
    """In float64, where no last bit decides the sign of a gradient."""

    def __init__(self, seed: int = 0, channels: int = 3) -> None:
        super().__init__(seed, channels)
        self.first, self.last = self.first.double(), self.last.double()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.double())


def test_batches_make_no_difference_and_neither_do_mates() -> None:
    images = torch.rand(12, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    labels, keys = torch.arange(12) % 4, torch.arange(12) * 5 + 1
    params = AttackParams(parse_method("mi,di,sgm:gamma=0.2"), eps=0.05, steps=3)

    def by(rows: Tensor) -> Tensor:
        return attack([Doubled()], images[rows], labels[rows], keys[rows], params).images

    whole = by(torch.arange(12))
    assert float((torch.cat([by(rows) for rows in torch.arange(12).split(5)]) - whole).abs().max()) < 1e-6
    assert float((by(torch.tensor([7])) - whole[7]).abs().max()) < 1e-6
    at_once = attack([Doubled()], images, labels, keys, params, at_once=4).images
    assert float((at_once - whole).abs().max()) < 1e-6


def test_it_composes_with_momentum_copies_views_and_filters() -> None:
    """Three steps of mi,si,sgm by hand; with di and ti, each part changes the outcome."""
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    labels, network, eps = torch.arange(4), Doubled(), 0.06
    x, momentum = images.double(), torch.zeros(4, 3, 9, 9, dtype=torch.float64)
    for _ in range(3):
        scaled = [taken([network], x / 2**k, labels, "sgm:gamma=0.2")[0] / 2**k for k in range(2)]
        gradient = torch.stack(scaled).mean(0)
        momentum = momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        x = (images + (x + eps / 3 * momentum.sign() - images).clamp(-eps, eps)).clamp(0, 1)
    settings = {"eps": eps, "steps": 3, "loss": "logit"}

    def made(method: str) -> Tensor:
        return attack([network], images, labels, torch.arange(4), AttackParams(parse_method(method), **settings)).images

    assert float(((made("mi,si:scales=2,sgm:gamma=0.2") - x).abs() < 1e-5).double().mean()) > 0.99
    parts = ["mi", "di:probability=1:shrink=0.5", "ti", "si:scales=2", "sgm:gamma=0.2"]
    whole = made(",".join(parts))
    for left in parts:
        assert not torch.equal(made(",".join(part for part in parts if part != left)), whole), left


def test_bfloat16_has_the_same_branches() -> None:
    network = create("advkit/resnet8", num_classes=4, input_size=(3, 8, 8), mean=(0.5,) * 3, std=(0.5,) * 3, seed=0)
    model = fuse_conv_bn(network.eval())
    images, labels, keys = (
        torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.arange(4),
        torch.arange(4),
    )
    objective = Objective([model], AttackParams(parse_method("sgm:gamma=0"), precision="bfloat16"), 4, images.device)
    coarse, _ = objective.gradient(Batch(images, labels, keys, keys), images)
    objective.precision = "float32"
    fine, _ = objective.gradient(Batch(images, labels, keys, keys), images)
    assert not torch.equal(coarse, fine)
    assert float(F.cosine_similarity(coarse.flatten(1), fine.flatten(1)).min()) > 0.95


def test_a_surrogate_without_gradients_is_told_from_one_without_branches() -> None:
    class Frozen(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).detach()

    with pytest.raises(InputError, match="only be a victim"):
        attack(
            [Frozen()], torch.rand(1, 3, 9, 9), torch.tensor([0]), torch.arange(1), AttackParams(parse_method("sgm"))
        )
