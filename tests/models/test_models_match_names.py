"""Weights whose names are not the net's: what is stripped, ignored, used and renamed, what is said, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models.build import create
from advkit.models.native_size import native_size
from advkit.models.network import Network
from advkit.models.reference import load

SIZE = (3, 8, 8)
NET = create("advkit/resnet8", num_classes=5, input_size=SIZE, seed=7).net
STATE = {name: value.clone() for name, value in NET.state_dict().items()}


def opened(tmp_path: Path, state: dict[str, Tensor], **wish) -> Network:
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    return load(f"advkit/resnet8@{tmp_path / 'w.pth'}", **wish)


def is_the_net(network: Network) -> bool:
    return network.spec.sha256 == fingerprint(STATE)


def under(prefix: str, state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def own_notes(network: Network) -> tuple[str, ...]:
    """Its notes but for the one on mean and std, which bare weights always get."""
    return tuple(note for note in network.spec.notes if not note.startswith("bare weights"))


# --- prefixes, heads and losses


@pytest.mark.parametrize("prefix", ["model.", "net.", "module.", "module.model.", "backbone.", "1."])
@pytest.mark.parametrize(
    "beside", ["criterion.weight", "train_acc.total", "loss_fn.pos_weight", "n_averaged", "projector.weight"]
)
def test_an_exact_prefix_is_stripped_and_what_is_beside_it_ignored_and_said(tmp_path, prefix, beside):
    network = opened(tmp_path, {beside: torch.ones(5), **under(prefix)})
    assert is_the_net(network)
    assert own_notes(network) == (f"weights outside {prefix!r} ignored: 1 ({beside})",)
    assert own_notes(opened(tmp_path, under(prefix))) == ()


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("aux1.conv.conv.weight", "auxiliary heads ignored: 1"),
        ("AuxLogits.fc.bias", "auxiliary heads ignored: 1"),
        ("aux_classifier.0.weight", "auxiliary heads ignored: 1"),
        ("auxiliary_head.0.weight", "auxiliary heads ignored: 1"),
        ("criterion.weight", "what only training needs ignored: 1"),
        ("loss.weight", "what only training needs ignored: 1"),
        ("conv1.total_ops", "what only training needs ignored: 1"),
    ],
)
def test_auxiliary_heads_and_losses(tmp_path, prefix, extra, said):
    network = opened(tmp_path, under(prefix, {**STATE, extra: torch.ones(5)}))
    assert is_the_net(network)
    assert own_notes(network) == (f"{said} ({extra})",)


@pytest.mark.parametrize("extra", ["surplus", "auxin.weight", "layer9.weight", "lossless.conv.weight", "fc.mean"])
def test_other_weights_are_still_refused(tmp_path, extra):
    for prefix in ("", "model."):
        with pytest.raises(InputError, match=rf"1 unexpected \({extra}\)"):
            opened(tmp_path, under(prefix, {**STATE, extra: torch.ones(5)}))


def test_a_lacking_tensor_is_still_refused(tmp_path):
    lacking = {name: value for name, value in STATE.items() if name != "linear.bias"}
    for state in (lacking, under("model.", lacking) | {"criterion.weight": torch.ones(5)}):
        with pytest.raises(InputError, match="missing"):
            opened(tmp_path, state)


def test_two_sets_that_fit(tmp_path):
    other = {name: value + 1 for name, value in STATE.items()}
    both = {**under("student."), **under("teacher.", other)}
    with pytest.raises(InputError, match="under 'student' and 'teacher'; write one of these after a #"):
        opened(tmp_path, both)
    assert is_the_net(load(f"advkit/resnet8@{tmp_path / 'w.pth'}#student"))
    assert not is_the_net(load(f"advkit/resnet8@{tmp_path / 'w.pth'}#teacher"))
    network = opened(tmp_path, {**under("averaged.", other), **under("module.model.")})
    assert is_the_net(network), "the usual prefix goes first"
    assert network.spec.notes[0].startswith("weights outside 'module.model.' ignored:")
    assert is_the_net(opened(tmp_path, {**under("a."), **under("b.")})), "the same twice is one"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_torchvision_files_with_auxiliary_heads(tmp_path, name):
    import torchvision

    net = torchvision.models.get_model(name, weights=None, num_classes=4, init_weights=False)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    network = load(f"torchvision/{name}@{tmp_path / 'w.pth'}", input_size=(3, 96, 96))
    assert "auxiliary heads ignored" in network.spec.notes[0]
    x = torch.rand(1, 3, 96, 96)
    expected = net.eval()((x - network.mean) / network.std)
    torch.testing.assert_close(network(x), expected)


# --- the wrapper's own normalisation

MEAN, STD = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("mean", "std", "prefix"),
    [
        ("normalize.mean", "normalize.std", "model."),
        ("mu", "sigma", ""),
        ("module.normalizer.new_mean", "module.normalizer.new_std", "module.model."),
        ("0.mean", "0.std", "1."),
        ("mean", "std", "net."),
    ],
)
@pytest.mark.parametrize("shape", [(3,), (1, 3, 1, 1), (3, 1, 1)])
def test_mean_and_std_of_the_file_are_used(tmp_path, mean, std, prefix, shape):
    network = opened(tmp_path, {mean: MEAN.view(shape), std: STD.view(shape), **under(prefix)}, input_size=SIZE)
    assert is_the_net(network)
    assert network.spec.mean == pytest.approx((0.1, 0.2, 0.3))
    assert network.spec.std == pytest.approx((0.4, 0.5, 0.6))
    assert network.spec.notes == ("mean 0.1 0.2 0.3 and std 0.4 0.5 0.6 are the file's own",)
    x = torch.rand(2, *SIZE)
    torch.testing.assert_close(network(x), NET.eval()((x - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)))


def test_statistics_of_other_scales_and_counts(tmp_path):
    bytes_ = opened(tmp_path, {"mean": 255 * MEAN, "std": 255 * STD, **under("model.")})
    assert bytes_.spec.mean == pytest.approx((0.1, 0.2, 0.3))
    assert bytes_.spec.std == pytest.approx((0.4, 0.5, 0.6))
    single = opened(tmp_path, {"mean": torch.tensor(0.5), "std": torch.tensor(0.25), **under("model.")})
    assert (single.spec.mean, single.spec.std) == ((0.5,) * 3, (0.25,) * 3)


def test_statistics_that_are_asked_for_go_first(tmp_path):
    network = opened(tmp_path, {"mean": MEAN, "std": STD, **under("model.")}, mean=(0.5,) * 3, std=(1.0,) * 3)
    assert (network.spec.mean, network.spec.std) == ((0.5,) * 3, (1.0,) * 3)
    assert "not used: others are asked for" in network.spec.notes[0]


@pytest.mark.parametrize(
    "beside",
    [
        {"mean": MEAN[:2], "std": STD[:2]},
        {"mean": MEAN, "std": -STD},
        {"mean": MEAN * torch.nan, "std": STD},
        {"mean": MEAN, "std": STD.double() * 1e-320},
        {"mean": MEAN, "std": STD.double() * 1e39},
    ],
    ids=["two", "negative", "nan", "subnormal", "above float32"],
)
def test_statistics_that_do_not_fit_are_left_and_said(tmp_path, beside):
    network = opened(tmp_path, {**beside, **under("model.")})
    assert network.spec.mean == (0.485, 0.456, 0.406)
    assert "not used: they don't fit 3 channels" in network.spec.notes[0]


def test_two_different_statistics_are_none(tmp_path):
    beside = {"a.mean": MEAN, "a.std": STD, "b.mean": MEAN + 0.1, "b.std": STD}
    network = opened(tmp_path, {**beside, **under("model.")})
    assert network.spec.mean == (0.485, 0.456, 0.406)
    assert own_notes(network) == ("weights outside 'model.' ignored: 4 (a.mean, a.std, b.mean, ...)",)


def test_a_net_that_normalises_by_itself_keeps_its_buffers(tmp_path):
    (tmp_path / "mine.py").write_text(NORMALISING)
    buffers = {"mean": MEAN.view(1, 3, 1, 1), "std": STD.view(1, 3, 1, 1)}
    weights = {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}
    torch.save({**buffers, **weights}, tmp_path / "w.pth")
    network = load(f"{tmp_path / 'mine.py'}:net@{tmp_path / 'w.pth'}", input_size=(3, 1, 1))
    assert (network.spec.mean, network.spec.notes) == ((0, 0, 0), ())
    x = torch.rand(2, 3, 1, 1)
    logits = ((x - buffers["mean"]) / buffers["std"]).sum((1, 2, 3))
    torch.testing.assert_close(network(x), logits[:, None].expand(2, 2))
    bare = f"{tmp_path / 'mine.py'}:bare@{tmp_path / 'w.pth'}"
    torch.testing.assert_close(load(bare, input_size=(3, 1, 1))(x), logits[:, None].expand(2, 2))
    assert "are the file's own" in load(bare, input_size=(3, 1, 1)).spec.notes[0]


NORMALISING = """
import torch
from torch import nn

class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x):
        return self.fc(x.flatten(1))

class Net(Bare):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("std", torch.ones(1, 3, 1, 1))

    def forward(self, x):
        return super().forward((x - self.mean) / self.std)

def net():
    return Net()

def bare():
    return Bare()
"""


# --- other names


def renamed(state: dict[str, Tensor] = STATE) -> dict[str, Tensor]:
    pairs = (("linear.", "classifier."), ("bn", "norm"), ("conv1", "conv_a"), ("conv2", "conv_b"))
    result = {}
    for name, value in state.items():
        for ours, theirs in pairs:
            name = name.replace(ours, theirs)
        result[name] = value
    return result


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("counted", [True, False])
def test_layers_of_other_names_in_the_same_order(tmp_path, prefix, counted):
    state = renamed({name: value for name, value in STATE.items() if counted or "num_batches" not in name})
    assert not set(state) <= set(STATE)
    network = opened(tmp_path, under(prefix, state))
    assert is_the_net(network)
    assert len(own_notes(network)) == 1
    assert "taken by order and shape: " in network.spec.notes[0]
    assert "conv_a.weight as conv1.weight" in network.spec.notes[0]
    assert (network.spec.num_classes, network.spec.input_size[0]) == (5, 3)


def test_names_that_contradict_the_order(tmp_path):
    swapped = {}  # of a block: conv2 first, then conv1, of the same shape
    for name, value in STATE.items():
        swap = {"conv1": "conv2", "conv2": "conv1", "bn1": "bn2", "bn2": "bn1"}
        parts = name.split(".")
        swapped[".".join([*parts[:-2], swap.get(parts[-2], parts[-2]), parts[-1]]) if "layer" in name else name] = value
    swapped = {name.replace("linear", "fc"): value for name, value in swapped.items()}
    with pytest.raises(InputError, match="name the right architecture"):
        opened(tmp_path, swapped)


@pytest.mark.parametrize("change", ["order", "leaf", "shape", "count", "split", "safetensors"])
def test_where_more_than_one_reading_is_possible_it_is_refused(tmp_path, change):
    state = renamed()
    if change == "order":
        state = dict(reversed(state.items()))
    elif change == "leaf":
        state = {name.replace("running_mean", "average"): value for name, value in state.items()}
    elif change == "shape":
        state["classifier.weight"] = state["classifier.weight"].T.contiguous()
    elif change == "count":
        state["more.weight"] = torch.ones(1)
    elif change == "split":
        state = {"other.bias" if name == "classifier.bias" else name: value for name, value in state.items()}
    if change == "safetensors":  # sorted by name: nothing is known of the order
        safetensors.torch.save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(InputError, match="name the right architecture"):
            load(f"advkit/resnet8@{tmp_path / 'w.safetensors'}")
        return
    with pytest.raises(InputError, match="name the right architecture"):
        opened(tmp_path, state)


def test_channels_of_renamed_weights_are_known_before_the_data_are(tmp_path):
    grey = create("advkit/resnet8", num_classes=4, input_size=(1, 8, 8), seed=1).net.state_dict()
    network = opened(tmp_path, renamed(grey))
    assert (network.spec.num_classes, network.spec.input_size[0]) == (4, 1)
    native = native_size(f"advkit/resnet8@{tmp_path / 'w.pth'}")
    assert native is not None
    assert native.channels == 1


def test_a_factory_that_wraps_its_net(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Wrapped(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))\n"
        "    def forward(self, x):\n"
        "        return self.inner(x)\n"
        "def net():\n"
        "    return Wrapped()\n"
    )
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)).state_dict(), tmp_path / "w.pth")
    network = load(f"{tmp_path / 'mine.py'}:net@{tmp_path / 'w.pth'}", input_size=(3, 1, 1))
    assert "1.weight as inner.1.weight" in network.spec.notes[0]
