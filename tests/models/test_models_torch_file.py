"""Files of torch.save and files that only look like them: read without running anything, or refused in one line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from advkit.files.errors import InputError
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
