"""Files of torch.save and files that only look like them: read without running anything, or refused in one line."""

from __future__ import annotations

import argparse
import collections
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from advkit.files.errors import InputError
from advkit.models.reference import load
from advkit.models.torch_file import SAFE_TORCH
from advkit.models.weights import read_weights

REPOSITORY = Path(__file__).parents[2]
STATE = {"weight": torch.arange(6.0).view(2, 3)}


def refused(path: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_weights(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


# --- torch versions


@pytest.mark.parametrize("version", ["2.5.1+cu124", "1.13.0", "unknown"])
def test_a_torch_that_could_run_code_reads_no_pickle(tmp_path, monkeypatch, version):
    torch.save(STATE, tmp_path / "w.pth")
    safetensors.torch.save_file(STATE, tmp_path / "w.safetensors")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read though unsafe"))
    refused(tmp_path / "w.pth", f"torch {version.replace('+', '.')} could run code.*CVE-2025-32434.*2.6 or later")
    assert torch.equal(read_weights(tmp_path / "w.safetensors")[0]["weight"], STATE["weight"])


@pytest.mark.parametrize("version", ["2.6.0", "2.10.0a0+git1234", "3.0.1"])
def test_later_versions_do(tmp_path, monkeypatch, version):
    torch.save(STATE, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "__version__", version)
    assert torch.equal(read_weights(tmp_path / "w.pth")[0]["weight"], STATE["weight"])


def test_the_package_asks_for_a_safe_torch():
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    floors = dict(line.split(">=") for line in wanted)
    assert tuple(map(int, floors["torch"].split("."))) >= SAFE_TORCH
    assert tuple(map(int, floors["torchvision"].split("."))) >= (0, 21)


# --- kinds


@pytest.mark.parametrize("name", ["model_best.pth.tar", "last.ckpt", "weights", "weights.safetensors", "w.pth"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_the_kind_is_known_by_content_not_by_suffix(tmp_path, name, kind):
    if kind == "safetensors":
        safetensors.torch.save_file(STATE, tmp_path / name)
    else:
        torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=kind == "zip")
    assert torch.equal(read_weights(tmp_path / name)[0]["weight"], STATE["weight"])


def test_a_header_that_begins_like_a_pickle(tmp_path):
    path = tmp_path / "w"
    safetensors.torch.save_file(STATE, path, {"a": "b" * 37})
    assert path.read_bytes()[:1] == b"\x80", "a header of 128 bytes is what this is about"
    assert torch.equal(read_weights(path)[0]["weight"], STATE["weight"])


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html>\n<html><head>", "web page.*download"),
        (b"\xef\xbb\xbf<HTML lang=en>", "web page"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    ],
)
def test_files_that_are_no_weights_have_sentences_of_their_own(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)
    with pytest.raises(InputError, match=words):
        load(str(tmp_path / name))


def test_an_unknown_kind(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"neither of them")
    refused(tmp_path / "w.pth", "neither a safetensors file nor one that torch.save wrote")
    (tmp_path / "w.safetensors").write_bytes(b"neither of them")
    refused(tmp_path / "w.safetensors", "damaged or not a safetensors file")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, r"options of its training \(argparse.Namespace\)"),
        ({"state_dict": STATE, "best": np.float64(1)}, r"object \(numpy\S+scalar\).*save the state dict alone"),
        ({"state_dict": STATE, "seen": collections.defaultdict(list)}, r"object \(collections.defaultdict\)"),
        (nn.Linear(2, 2), r"whole pickled module \(torch.nn.modules.linear.Linear\).*state_dict\(\)"),
        ({"model": nn.Sequential(nn.ReLU())}, r"whole pickled module \(torch.nn.modules.container.Sequential\)"),
    ],
    ids=["namespace", "numpy", "defaultdict", "module", "module within"],
)
def test_objects_are_named_and_not_made(tmp_path, zipped, content, words):
    torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "w.ckpt", f"not a plain state dict: holds .*{words}")


def test_a_torchscript_archive(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "TorchScript archive.*state_dict")


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.ones(2, device="meta"), "meta device"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "nested"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged), "nested"),
        (lambda: torch.eye(2).to_sparse(), "sparse.*to_dense"),
        (lambda: torch.eye(2).to_sparse_csr(), "sparse.*to_dense"),
        (quantized, "quantized.*dequantize"),
    ],
    ids=["meta", "nested", "jagged", "coo", "csr", "quantized"],
)
def test_tensors_that_are_no_plain_numbers(tmp_path, make, words):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({**STATE, "odd": make()}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", f"'odd' is .*{words}")


def test_a_small_file_can_not_ask_for_a_huge_net(tmp_path):
    few = {"repeated": torch.ones(1).expand(1000), "part": torch.arange(9.0)[3:5]}
    torch.save({**STATE, **few}, tmp_path / "w.pt")
    assert read_weights(tmp_path / "w.pt")[0]["repeated"].shape == (1000,)
    torch.save({**STATE, "repeated": torch.ones(1).expand(10**12)}, tmp_path / "w.pt")
    refused(tmp_path / "w.pt", "'repeated' of shape .* repeats few numbers.*contiguous")


def test_a_state_dict_alone_names_no_architecture(tmp_path):
    torch.save(STATE, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match=r"write ARCH@.*last\.ckpt"):
        load(str(tmp_path / "last.ckpt"))
