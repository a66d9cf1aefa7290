"""Another number of threads rounds otherwise and no more: what advkit.1 promises under REPRODUCIBILITY."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from executable import Run
from safetensors.torch import load_file

ROUNDING = 1e-5  # of a pixel


@pytest.mark.parametrize("method", ["pgd", "mi,di,ti", "square:queries=20", "noise"])
def test_threads_change_no_verdict(method: str, r: Path, inside: Run, tmp_path: Path) -> None:
    sets, results = [], []
    for threads in (1, 3):
        torch.set_num_threads(threads)  # as OMP_NUM_THREADS would; the fixture sets it back
        out = tmp_path / f"{threads}.safetensors"
        loss = [] if method == "noise" else ["--loss", "margin"]
        found = inside(
            *("attack", r, "--data", "digits", "--limit", "64", "--eps", "0.25", "--method", method, *loss, "-o", out)
        )
        assert found.returncode == 0, found.stderr
        results.append(json.loads(found.stdout)["result"])
        sets.append(load_file(out))
    for name, tensor in sets[0].items():
        assert torch.allclose(tensor.float(), sets[1][name].float(), atol=ROUNDING), name
    for key in ("surrogates", "ensemble_success", "forwards_per_image", "backwards_per_image", "images"):
        assert results[0][key] == results[1][key]
