"""Files with several sets of weights: which is taken, what is said of it, and how a user picks another."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.errors import InputError
from advkit.models.build import create
from advkit.models.native_size import native_size
from advkit.models.reference import load
from advkit.models.weights import Weights, read_weights

RAW = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
AVERAGED = {"weight": torch.ones(2, 3), "bias": torch.ones(2)}


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "w.pth")
    return tmp_path / "w.pth"


def is_averaged(found: Weights) -> bool:
    """Which of the two sets was read; neither fails."""
    assert set(found.tensors) == set(RAW)
    value = float(found.tensors["bias"][0])
    assert all(bool((tensor == value).all()) for tensor in found.tensors.values())
    return value == 1


EMA_KEYS = ["ema_state_dict", "state_dict_ema", "model_ema", "ema", "params_ema", "ema_model"]


@pytest.mark.parametrize("key", EMA_KEYS)
def test_averaged_weights_alone_are_taken_and_said(tmp_path, key):
    found = read_weights(saved(tmp_path, {"epoch": 3, key: AVERAGED}))
    assert is_averaged(found)
    assert found.notes == (f"the averaged weights under {key!r} are taken; there are no others",)


@pytest.mark.parametrize("key", EMA_KEYS)
@pytest.mark.parametrize("usual", ["state_dict", "model"])
def test_of_both_the_usual_ones_are_taken_unless_the_user_picks(tmp_path, key, usual):
    path = saved(tmp_path, {"epoch": 3, key: AVERAGED, usual: RAW})
    found = read_weights(path)
    assert not is_averaged(found)
    assert len(found.notes) == 1
    assert f"{usual!r} are taken, not {key!r}; #{key} after" in found.notes[0]
    for pick, averaged in (("ema", True), (key, True), (usual, False)):
        found = read_weights(Path(f"{path}#{pick}"))
        assert is_averaged(found) == averaged
        assert f"{key if averaged else usual!r}".strip("'") in found.notes[0].partition(" are taken, not ")[0]


def test_nothing_is_said_of_a_plain_file(tmp_path):
    for content in (RAW, {"state_dict": RAW, "epoch": 3, "optimizer": {"state": {}}}, {"model": {"module": RAW}}):
        found = read_weights(saved(tmp_path, content))
        assert not is_averaged(found)
        assert found.notes == ()


def test_a_config_under_a_usual_key_is_no_set_of_weights(tmp_path):
    found = read_weights(saved(tmp_path, {"model": {"name": "resnet"}, "state_dict_ema": AVERAGED}))
    assert is_averaged(found)


def test_averaged_weights_within_wrappers(tmp_path):
    path = saved(tmp_path, {"state_dict": {"net": RAW, "ema": {"module": AVERAGED, "updates": 3}}})
    assert not is_averaged(read_weights(path))
    assert is_averaged(read_weights(Path(f"{path}#ema")))


def test_any_key_and_any_prefix_can_be_picked(tmp_path):
    path = saved(tmp_path, {"student": RAW, "teacher": AVERAGED, "epoch": 3})
    assert is_averaged(read_weights(Path(f"{path}#teacher")))
    assert not is_averaged(read_weights(Path(f"{path}#student")))
    with pytest.raises(InputError, match=r"holds weights under 'student', 'teacher'; write FILE#KEY"):
        read_weights(path)
    both = {
        f"{name}.{key}": value for name, state in (("a", RAW), ("model_ema", AVERAGED)) for key, value in state.items()
    }
    path = saved(tmp_path, {"state_dict": both})
    assert not is_averaged(read_weights(Path(f"{path}#a")))
    assert is_averaged(read_weights(Path(f"{path}#model_ema")))
    assert is_averaged(read_weights(Path(f"{path}#ema")))
    safetensors.torch.save_file(both, tmp_path / "w.safetensors")
    assert not is_averaged(read_weights(tmp_path / "w.safetensors#a"))


@pytest.mark.parametrize("content", [RAW, {"state_dict": RAW}], ids=["bare", "wrapped"])
def test_a_key_that_is_not_there(tmp_path, content):
    path = saved(tmp_path, content)
    for key in ("ema", "teacher", "weight"):
        with pytest.raises(InputError, match=f"w.pth: no weights under '{key}'"):
            read_weights(Path(f"{path}#{key}"))


def test_a_file_whose_name_has_the_mark_is_that_file(tmp_path):
    torch.save({"state_dict": RAW, "ema": AVERAGED}, tmp_path / "w#ema")
    assert not is_averaged(read_weights(tmp_path / "w#ema"))
    assert is_averaged(read_weights(tmp_path / "w#ema#ema"))
    with pytest.raises(InputError, match="no such weights file"):
        read_weights(tmp_path / "v#ema")


def test_the_network_tells_and_its_native_size_goes_by_the_same_weights(tmp_path):
    grey = create("advkit/resnet8", num_classes=4, input_size=(1, 8, 8), seed=1).net.state_dict()
    colour = create("advkit/resnet8", num_classes=5, input_size=(3, 8, 8), seed=2).net.state_dict()
    path = saved(tmp_path, {"state_dict": grey, "state_dict_ema": colour})
    network = load(f"advkit/resnet8@{path}")
    assert (network.spec.num_classes, network.spec.input_size[0]) == (4, 1)
    assert "'state_dict' are taken, not 'state_dict_ema'" in network.spec.notes[0]
    network = load(f"advkit/resnet8@{path}#ema")
    assert (network.spec.num_classes, network.spec.input_size[0]) == (5, 3)
    assert "'state_dict_ema' are taken, not 'state_dict'" in network.spec.notes[0]
    for pick, channels in (("", 1), ("#ema", 3)):
        native = native_size(f"advkit/resnet8@{path}{pick}")
        assert native is not None
        assert native.channels == channels


def test_a_factory_picks_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3, 2))\n"
    )
    one, two = ({f"1.{name}": value for name, value in state.items()} for state in (RAW, AVERAGED))
    path = saved(tmp_path, {"state_dict": one, "model_ema": two})
    for pick, value in (("", 0.0), ("#ema", 1.0)):
        network = load(f"{tmp_path / 'mine.py'}:net@{path}{pick}", input_size=(3, 1, 1), num_classes=2)
        assert float(network.net[1].bias[0]) == value
        assert "are taken" in network.spec.notes[0]


def test_an_advkit_checkpoint_has_no_keys(tmp_path):
    network = create("advkit/resnet8", num_classes=2, input_size=(1, 8, 8))
    meta = {"architecture": "advkit/resnet8", "model_args": {}, "num_classes": 2, "labels": [],
            "input_size": [1, 8, 8], "mean": [0.5], "std": [0.5]}  # fmt: skip
    write_checkpoint(tmp_path / "r.safetensors", Checkpoint(network.net.state_dict(), meta))
    with pytest.raises(InputError, match="no weights under 'ema'"):
        load(f"advkit/resnet8@{tmp_path / 'r.safetensors'}#ema")
