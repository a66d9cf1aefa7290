"""Two classes, dark and bright, and an R that tells them apart by their mean alone: its margins are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.models import build

GENOME = Path(__file__).with_name("genome.json")
EPS = "0.3"  # moves a dark image, at most 0.35 everywhere, beyond the threshold of 0.5, and a bright one below


def write_images(path: Path, count: int = 600) -> Path:
    """``count`` images of 8x8: pixels in [0.25, 0.35], class 0, or in [0.65, 0.75], class 1."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(count) % 2)
    pixels = rng.uniform(-0.05, 0.05, (count, 1, 8, 8)) + np.where(labels, 0.7, 0.3)[:, None, None, None]
    np.savez(path, images=pixels.astype(np.float32), labels=labels)
    return path


def write_reference(path: Path, threshold: float = 0.5) -> Path:
    """Two convolutions in which one channel passes and the mean of its map decides: above ``threshold`` is class 1."""
    network = build.create(
        f"advkit/genome:{GENOME}", num_classes=2, input_size=(1, 8, 8), mean=(0.0,), std=(1.0,), labels=("0", "1")
    )
    state = {name: torch.zeros_like(tensor) for name, tensor in network.net.state_dict().items()}
    for name, tensor in state.items():
        if name.endswith("running_var") or name in ("stem.1.weight", "nodes.1.1.weight"):
            tensor.fill_(1.0)
    state["stem.0.weight"][0, 0, 1, 1] = 1.0
    state["nodes.1.0.weight"][0, 0] = 1 / 9
    state["head.0.weight"][1, 0] = 20.0
    network.net.load_state_dict(state)
    with torch.no_grad():
        middle = network.net.eval()(torch.full((1, 1, 8, 8), threshold))[0, 1]
    state["head.0.bias"][1] = -middle
    spec = network.spec
    meta = {
        "task": "classification",
        "architecture": spec.architecture,
        "model_args": spec.model_args,
        "num_classes": 2,
        "labels": ["0", "1"],
        "input_size": [1, 8, 8],
        "mean": [0.0],
        "std": [1.0],
    }
    write_checkpoint(path, Checkpoint(state, meta))
    return path
