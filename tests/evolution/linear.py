"""Linear classifiers of digits, solved for and not trained: the same on every processor to the last bits."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from advkit.data import reference as data_reference
from advkit.data.sampling import hold_out
from advkit.files.checkpoint import Checkpoint, write_checkpoint


def network() -> nn.Module:
    """The factory that model references name."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def write_linear(path: Path, images: int | None = None, *, without: int | None = None, sign: int = 1) -> str:
    """Ridge regression on the first ``images`` training digits (all: 95 % right, 200: 78 %); its model reference.

    Args:
        path: of the checkpoint.
        images: None for all that tests of this directory do not hold out.
        without: a class that it never answers.
        sign: -1 answers the least likely class.
    """
    data = data_reference.load("digits", role="train")
    pixels, targets = data.batch(hold_out(data.targets, 0.2, 0)[0][:images])
    x = torch.cat([pixels.flatten(1), torch.ones(len(pixels), 1)], 1).double()
    wanted = nn.functional.one_hot(targets, 10).double()
    found = torch.linalg.solve(x.T @ x + torch.eye(65).double(), x.T @ wanted)
    weight, bias = (sign * 10 * found[:-1].T).float().contiguous(), (sign * 10 * found[-1]).float().contiguous()
    if without is not None:
        bias[without] -= 1e4
    meta = {
        "task": "classification",
        "architecture": f"{__file__}:network",
        "model_args": {},
        "num_classes": 10,
        "labels": list(data.class_names),
        "input_size": [1, 8, 8],
        "mean": [0.0],
        "std": [1.0],
    }
    write_checkpoint(path, Checkpoint({"1.weight": weight, "1.bias": bias}, meta))
    return f"{__file__}:network@{path}"
