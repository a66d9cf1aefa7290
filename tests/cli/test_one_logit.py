"""A network of one logit takes part as a classifier of two classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from executable import Run

NET = '''
import torch
from torch import nn

class Brightness(nn.Module):
    """Class 1 where the mean is above 0.5."""

    def __init__(self, size=1):
        super().__init__()
        self.head = nn.Linear(1, size)
        nn.init.constant_(self.head.weight, 20.0), nn.init.constant_(self.head.bias, -10.0)

    def forward(self, images):
        return self.head(images.mean((1, 2, 3))[:, None])

def one():
    return Brightness()
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images, of which the network takes one of each class for the other."""
    (tmp_path / "net.py").write_text(NET)
    labels = np.arange(8) % 2
    values = np.where(labels, 0.6, 0.4)
    values[[2, 5]] = 0.9, 0.1
    images = np.broadcast_to(values[:, None, None, None], (8, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "two.npz", images=images, labels=labels)
    np.savez(tmp_path / "three.npz", images=images, labels=np.arange(8) % 3)
    return tmp_path


def test_evaluate_and_attack(folder: Path, inside: Run) -> None:
    done = inside("evaluate", f"{folder}/net.py:one", "--data", folder / "two.npz", "--json", "-q")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    found = report["result"]["models"][0]["top1"]
    assert (found["successes"], found["total"]) == (6, 8)
    assert [flag for flag in report["flags"] if "one logit" in flag]
    out = folder / "a.safetensors"
    attack = ("attack", f"{folder}/net.py:one", "--data", folder / "two.npz", "--eps", "0.2", "-o", out)
    done = inside(*attack, "--json", "-q")
    assert done.returncode == 0, done.stderr
    done = inside("evaluate", f"{folder}/net.py:one", "--data", out, "--json", "-q")
    assert json.loads(done.stdout)["result"]["models"][0]["top1"]["successes"] == 0  # 0.2 crosses the threshold


def test_it_is_no_network_for_three_classes(folder: Path, inside: Run) -> None:
    done = inside("evaluate", f"{folder}/net.py:one", "--data", folder / "three.npz")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 1 classes" in done.stderr
    assert done.stderr.count("\n") == 1
