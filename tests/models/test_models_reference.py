"""All five forms of model reference, and what happens to wrong ones."""

from __future__ import annotations

import io
import json
import pickle
import textwrap
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint, write_tensors
from advkit.models.build import create
from advkit.models.config import ModelOverrides
from advkit.models.reference import load

SIZE = (3, 8, 8)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net():
    return create("advkit/resnet8", num_classes=5, input_size=SIZE, seed=7).net


def write(path: Path, net: nn.Module, **changes) -> Path:
    meta = {
        "task": "classification", "architecture": "advkit/resnet8", "model_args": {}, "num_classes": 5,
        "labels": list("abcde"), "input_size": list(SIZE), "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0],
    }  # fmt: skip
    write_checkpoint(path, Checkpoint(net.state_dict(), meta | changes))
    return path


def refused(ref, words: str, **wish) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load(str(ref), **wish)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


# --- the five forms


def test_checkpoint(tmp_path, net):
    path = write(tmp_path / "r.safetensors", net)
    network = load(str(path), num_classes=5, input_size=SIZE)
    spec = network.spec
    assert (spec.ref, spec.architecture, spec.labels) == (str(path), "advkit/resnet8", tuple("abcde"))
    assert (spec.mean, spec.std, spec.input_size) == ((0.1, 0.2, 0.3), (1, 2, 3), SIZE)
    assert spec.sha256 == fingerprint(net.state_dict())
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    x = torch.rand(2, *SIZE)
    mean, std = torch.tensor(spec.mean)[:, None, None], torch.tensor(spec.std)[:, None, None]
    torch.testing.assert_close(network(x), net.eval()((x - mean) / std))


def test_fresh_architecture_is_a_function_of_the_seed():
    first = load("advkit/cnn", num_classes=3, input_size=(1, 8, 8), seed=1)
    assert first.spec == load("advkit/cnn", ModelOverrides(num_classes=3, input_size=(1, 8, 8), seed=1)).spec
    assert first.spec.sha256 != load("advkit/cnn", num_classes=3, input_size=(1, 8, 8), seed=2).spec.sha256
    assert (first.spec.mean, first.spec.std) == ((0.5,), (0.5,))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".safetensors"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_bare_weights(tmp_path, net, suffix, prefix, wrapper):
    state = {prefix + key: value for key, value in net.state_dict().items() if "num_batches" not in key}
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        write_tensors(path, state, "")
    else:
        torch.save({wrapper: state, "epoch": 3, "best": 0.5} if wrapper else state, path)
    network = load(f"advkit/resnet8@{path}")
    assert network.spec.num_classes == 5
    assert network.spec.input_size == (3, 32, 32)
    assert network.spec.mean == (0.485, 0.456, 0.406)
    assert network.spec.sha256 == fingerprint(net.state_dict())
    sized = load(f"advkit/resnet8@{path}", input_size=SIZE, mean=(0, 0, 0), std=(1, 1, 1), labels=list("vwxyz"))
    assert (sized.spec.input_size, sized.spec.mean, sized.spec.labels) == (SIZE, (0, 0, 0), tuple("vwxyz"))


def test_channels_come_from_the_weights(tmp_path):
    net = create("advkit/vgg11", num_classes=4, input_size=(1, 8, 8)).net
    torch.save(net.state_dict(), tmp_path / "grey.pt")
    spec = load(f"advkit/vgg11@{tmp_path / 'grey.pt'}").spec
    assert (spec.num_classes, spec.input_size, spec.mean) == (4, (1, 32, 32), (0.5,))


def test_architecture_with_a_checkpoint_keeps_what_the_checkpoint_says(tmp_path, net):
    path = write(tmp_path / "r.safetensors", net)
    network = load(f"advkit/resnet8@{path}")
    assert (network.spec.mean, network.spec.labels) == ((0.1, 0.2, 0.3), tuple("abcde"))
    assert network.spec.ref == f"advkit/resnet8@{path}"
    refused(f"advkit/resnet20@{path}", "is a checkpoint of advkit/resnet8")


@pytest.mark.parametrize("name", ["timm/resnet10t", "timm/test_vit", "torchvision/squeezenet1_1"])
def test_library_weights(tmp_path, name):
    net = create(name, num_classes=6, input_size=(3, 64, 64), seed=3).net
    torch.save(net.state_dict(), tmp_path / "w.pth")
    network = load(f"{name}@{tmp_path / 'w.pth'}", input_size=(3, 64, 64))
    assert network.spec.num_classes == 6
    assert network.spec.sha256 == fingerprint(net.state_dict())
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 6)


def timm_directory(path: Path, **changes) -> Path:
    import timm

    torch.manual_seed(0)
    path.mkdir()
    net = timm.create_model("resnet10t", num_classes=3, in_chans=3)
    write_tensors(path / "model.safetensors", net.state_dict(), "")
    config = {
        "architecture": "resnet10t", "num_classes": 3, "num_features": 512, "label_names": ["cat", "dog", "eel"],
        "pretrained_cfg": {"input_size": [3, 48, 40], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
                           "num_classes": 1000, "tag": "a1_in1k"},
    }  # fmt: skip
    (path / "config.json").write_text(json.dumps(config | changes))
    return path


def test_timm_directory(tmp_path):
    spec = load(str(timm_directory(tmp_path / "m"))).spec
    assert (spec.architecture, spec.num_classes, spec.labels) == ("timm/resnet10t", 3, ("cat", "dog", "eel"))
    assert (spec.input_size, spec.mean, spec.std) == ((3, 48, 40), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    flat = {"pretrained_cfg": None, "mean": [0.5] * 3, "std": [0.25] * 3, "input_size": [3, 32, 32]}
    assert load(str(timm_directory(tmp_path / "flat", **flat))).spec.std == (0.25,) * 3


def factory_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour_of_mine.py").write_text("WIDTH = 4\n")
    path = tmp_path / "mine.py"
    path.write_text(
        textwrap.dedent("""
        import torch
        from torch import nn
        from neighbour_of_mine import WIDTH

        def small(num_classes=6):
            return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                 nn.Linear(WIDTH, num_classes))

        def broken():
            raise KeyError("two\\nlines")

        def no_module():
            return 3

        class Pair(nn.Module):
            def forward(self, x):
                return x, x
        """)
    )
    return path


def test_factory(tmp_path):
    ref = f"{factory_file(tmp_path)}:small"
    network = load(ref, input_size=SIZE, seed=1)
    assert (network.spec.num_classes, network.spec.mean, network.spec.std) == (6, (0, 0, 0), (1, 1, 1))
    assert network.spec.architecture == ref
    assert network.spec.sha256 == load(ref, input_size=SIZE, seed=1).spec.sha256
    assert load(ref, num_classes=9).spec.num_classes == 9
    torch.save({"state_dict": network.net.state_dict()}, tmp_path / "w.pt")
    assert load(f"{ref}@{tmp_path / 'w.pt'}", seed=5).spec.sha256 == network.spec.sha256
    path = write(tmp_path / "c.safetensors", network.net, architecture=ref, num_classes=6, labels=[])
    assert load(f"{ref}@{path}").spec.mean == (0.1, 0.2, 0.3)
    refused(path, "foreign code")


# --- wrong ones


def test_checkpoint_contradicted(tmp_path, net):
    path = write(tmp_path / "r.safetensors", net)
    refused(path, "has 5 classes, 10 are needed", num_classes=10)
    refused(path, "3x8x8.*not 1x8x8", input_size=(1, 8, 8))
    refused(path, "3x8x8.*not 3x9x8", input_size=(3, 9, 8))
    refused(path, "own mean and std", mean=(0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 4, "labels": []}, "'linear.bias' has shape|'linear.weight' has shape"),
        ({"num_classes": 10**9, "labels": []}, "1000000000 classes; give 1 to"),
        ({"labels": ["a"]}, "1 labels for 5 classes"),
        ({"architecture": "advkit/resnet20"}, "36|missing"),
        ({"architecture": "advkit/resnet9"}, "advkit/resnet8"),
        ({"architecture": "timm/resnet18", "model_args": {"pretrained": True}}, "not allowed"),
        ({"architecture": "/etc/passwd"}, "no such"),
        ({"model_args": {"x": 1}}, "no model arguments"),
        ({"input_size": [1, 8, 8], "mean": [0.5], "std": [0.5]}, "'conv1.weight' has shape"),
    ],
)
def test_checkpoint_that_contradicts_itself(tmp_path, net, changes, words):
    refused(write(tmp_path / "r.safetensors", net, **changes), words)


def test_misfits_are_named_with_their_count(tmp_path, net):
    state = net.state_dict()

    def saved(**changes) -> str:
        torch.save({key: value for key, value in (state | changes).items() if value is not None}, tmp_path / "w.pt")
        return f"advkit/resnet8@{tmp_path / 'w.pt'}"

    refused(saved(**{"conv1.weight": None, "bn1.bias": None}), r"2 missing \(bn1.bias, conv1.weight\)")
    refused(saved(surplus=torch.ones(1)), r"1 unexpected \(surplus\)")
    refused(saved(**{f"s{i}": torch.ones(1) for i in range(9)}), r"9 unexpected \(s0, s1, s2, \.\.\.\)")
    refused(saved(**{"bn1.bias": torch.ones(3)}), r"'bn1.bias' has shape \[3\], the architecture needs \[16\]")
    refused(saved(**{"bn1.bias": torch.ones(16, dtype=torch.int32)}), "'bn1.bias' is torch.int32")
    refused(saved(**{"bn1.bias": torch.full((16,), torch.nan)}), "'bn1.bias' holds NaN")
    refused(saved(**{"bn1.bias": torch.full((16,), 1e300, dtype=torch.float64)}), "'bn1.bias' holds NaN or inf")
    refused(saved(**{"bn1.bias": torch.ones(16).to_sparse()}), "'bn1.bias' is")
    refused(saved(), "has 5 classes, 7 are needed", num_classes=7)
    refused(saved(), "not 1x8x8", input_size=(1, 8, 8))
    load(saved(**{"bn1.bias": torch.ones(16, dtype=torch.float16)}))


class Hostile:
    """Touches a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("form", ["pickle", "legacy", "zip"])
def test_hostile_pickle_is_not_run(tmp_path, form):
    target, path = tmp_path / "touched", tmp_path / "w.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": Hostile(target)}))
    else:
        torch.save({"state_dict": Hostile(target)}, path, _use_new_zipfile_serialization=form == "zip")
    refused(f"advkit/resnet8@{path}", "not a plain state dict")
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert target.exists(), "the trap itself does not work"


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_pickle(tmp_path, net, zipped):
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer, _use_new_zipfile_serialization=zipped)
    data, path = buffer.getvalue(), tmp_path / "w.th"
    for cut in [0, 1, 2, 7, 64, 300, *range(1000, len(data) - 1, len(data) // 17), len(data) - 1]:
        path.write_bytes(data[:cut])
        refused(f"advkit/resnet8@{path}", "w.th")


@pytest.mark.parametrize("content", [3, [1], {}, {"a": 1}, {1: torch.ones(1)}, {"state_dict": {"model": {}}}], ids=str)
def test_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    refused(f"advkit/resnet8@{tmp_path / 'w.pt'}", "state dict")


def test_other_files(tmp_path, net):
    path = write(tmp_path / "r.safetensors", net)
    (tmp_path / "cut.safetensors").write_bytes(path.read_bytes()[:-3])
    refused(tmp_path / "cut.safetensors", "cut short")
    refused(f"advkit/resnet8@{tmp_path / 'cut.safetensors'}", "cut short")
    safetensors.torch.save_file(net.state_dict(), tmp_path / "bare.safetensors")
    refused(tmp_path / "bare.safetensors", "ARCH@")
    torch.save(net.state_dict(), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "ARCH@")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as file:
        file.writestr("hello", "world")
    refused(f"advkit/resnet8@{tmp_path / 'zip.pt'}", "not a plain state dict")
    refused(tmp_path / "none.safetensors", "no such file")
    refused("advkit/resnet8@nothing.pt", "no such weights file")
    refused("advkit/resnet8@pretrained", "no weights")
    refused("advkit/resnet8@", "weights file")
    refused("", "empty")


def test_directory_that_is_no_model(tmp_path):
    refused(tmp_path, "without config.json")
    path = timm_directory(tmp_path / "m", num_classes=4, label_names=list("abcd"))
    refused(path, "has shape")
    for text, words in [("{", "as JSON"), ("[" * 10**5, "as JSON"), ("[]", "JSON object"), ("{}", "timm"),
                        ('{"architecture":"resnet10t","pretrained_cfg":{"mean":3}}', "wrong kind"),
                        ('{"architecture":"resnet10t","pretrained_cfg":3}', "wrong kind"),
                        ('{"architecture":"hf_hub:a/b"}', "no such")]:  # fmt: skip
        (path / "config.json").write_text(text)
        refused(path, words)
    (path / "model.safetensors").unlink()
    (path / "config.json").write_text('{"architecture":"resnet10t"}')
    refused(path, "no model.safetensors")


def test_factory_that_fails(tmp_path):
    path = factory_file(tmp_path)
    refused(f"{path}:broken", "KeyError")
    refused(f"{path}:no_module", "gave a int")
    refused(f"{path}:absent", "no function 'absent'")
    refused(f"{path}:Pair", "gives tuple")
    refused(f"{path}:small", "fails on 1x8x8", input_size=(1, 8, 8))
    refused(str(path), ":FACTORY")
    refused(f"{tmp_path / 'nothing.py'}:small", "no such file")
    path.write_text("import nothing_of_that_name\n")
    refused(f"{path}:small", "ModuleNotFoundError")
