"""Programs and ONNX files as models: what they are asked and answer, and every way in which they can fail to."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.commands.app import run
from advkit.files.errors import InputError
from advkit.models import black_box, reference
from advkit.models.fuse import fuse_conv_bn

PROGRAM = f"""#!{sys.executable}
import sys, time
import numpy as np
from safetensors.numpy import load, save
images = load(sys.stdin.buffer.read())["images"]
score = 10 * (images.mean((1, 2, 3)) - 0.5)
answer = {{"logits": np.stack([-score, score], 1).astype(np.float32)}}
ANSWER
sys.stdout.buffer.write(save(answer))
"""


def program(folder: Path, change: str = "") -> str:
    path = folder / "victim"
    path.write_text(PROGRAM.replace("ANSWER", change))
    path.chmod(0o755)
    return f"cmd:{path}"


def images(count: int = 5, size: tuple[int, int, int] = (1, 6, 6)) -> Tensor:
    return torch.rand(count, *size, generator=torch.Generator().manual_seed(0))


def wanted(pixels: Tensor) -> Tensor:
    score = 10 * (pixels.mean((1, 2, 3)) - 0.5)
    return torch.stack([-score, score], 1)


def test_a_program_reads_pixels_and_its_logits_are_taken(tmp_path: Path) -> None:
    network = reference.load(program(tmp_path), num_classes=2, input_size=(1, 6, 6))
    assert torch.allclose(network(images()), wanted(images()), atol=1e-5)
    half = reference.load(program(tmp_path), num_classes=2, input_size=(1, 6, 6), mean=(0.5,), std=(2.0,))
    assert torch.allclose(half(images()), wanted((images() - 0.5) / 2.0), atol=1e-5)
    before = network.spec.sha256
    assert reference.load(program(tmp_path), num_classes=2, input_size=(1, 6, 6)).spec.sha256 == before
    other = reference.load(program(tmp_path, "pass  # another program"), num_classes=2, input_size=(1, 6, 6))
    assert other.spec.sha256 != before
    assert sum(parameter.numel() for parameter in network.parameters()) == 0
    assert any("a black box" in note for note in network.spec.notes)


def test_labels_become_logits_of_the_datas_classes(tmp_path: Path) -> None:
    ref = program(tmp_path, 'answer = {"labels": answer["logits"].argmax(1)}')
    network = reference.load(ref, num_classes=3, input_size=(1, 6, 6))
    found = network(images())
    assert found.shape == (5, 3)
    assert torch.equal(found.argmax(1), wanted(images()).argmax(1))
    assert found.sum(1).tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("sys.exit(3)", "ended with status 3; mend it"),
        ('sys.exit("no weights here")', "ended with status 1: no weights here; mend it"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9; mend it"),
        ('print("rubbish"); sys.exit(0)', "wrote 8 bytes that are no safetensors; mend it"),
        ("sys.exit(0)", "wrote 0 bytes that are no safetensors; mend it"),
        ("time.sleep(30)", "no answer to 1 images in 0.5 s; mend it"),
        ('answer = {"logits": np.zeros((7, 2))}', "answers [7, 2] to 1 images, not [N, K] logits"),
        ('answer = {"logits": np.zeros(1)}', "answers [1] to 1 images, not [N, K] logits"),
        ('answer = {"scores": np.zeros((1, 2))}', "wrote neither logits (N, K) nor integer labels (N,); mend it"),
        ('answer = {"labels": np.zeros(1)}', "wrote neither logits (N, K) nor integer labels (N,); mend it"),
        ('answer = {"labels": np.array([2])}', "wrote labels beyond the 2 classes of the data; mend it"),
        ('answer = {"labels": np.array([-1])}', "wrote labels beyond the 2 classes of the data; mend it"),
    ],
)
def test_a_program_that_fails_is_one_line(
    change: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "sleep" in change:
        monkeypatch.setattr(black_box, "PATIENCE", 0.5)
    ref = program(tmp_path, change)
    with pytest.raises(InputError) as refused:
        reference.load(ref, num_classes=2, input_size=(1, 6, 6))
    assert str(refused.value) == f"{ref}: {words}"


def test_programs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    for ref in (f"cmd:{tmp_path / 'plain'}", f"cmd:{tmp_path / 'absent'}"):
        with pytest.raises(InputError, match=r"there is no program .* that can be run; check its path and its mode"):
            reference.load(ref, num_classes=2, input_size=(1, 6, 6))
    with pytest.raises(InputError, match=r"cmd:: names no program; write cmd:\./PROGRAM"):
        reference.load("cmd:", num_classes=2, input_size=(1, 6, 6))


def onnx_file(path: Path, batch: int | str = "N", inputs: int = 1) -> Path:
    """Mean over places, then a linear layer from 3 channels to 4 classes."""
    onnx = pytest.importorskip("onnx", reason="writes the file: pip install onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
    names = ["images", "more"][:inputs]
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Gemm", ["flat", "w"], ["logits"]),
        ],
        "net",
        [helper.make_tensor_value_info(name, kind, [batch, 3, 8, 8]) for name in names],
        [helper.make_tensor_value_info("logits", kind, [batch, 4])],
        [helper.make_tensor("w", kind, [3, 4], weight.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_an_onnx_file_is_asked_whatever_batch_it_was_made_for(batch: int | str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="runs the file: pip install onnxruntime")
    network = reference.load(str(onnx_file(tmp_path / "m.onnx", batch)))
    pixels = images(6, (3, 8, 8))
    weight = torch.arange(12.0).view(3, 4) / 10
    assert network.spec.num_classes == 4
    assert network.spec.input_size == (3, 8, 8)
    assert torch.allclose(network(pixels), pixels.mean((2, 3)) @ weight, atol=1e-5)
    assert torch.equal(fuse_conv_bn(network)(pixels), network(pixels))


def test_onnx_files_that_are_none(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="runs the file: pip install onnxruntime")
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="not an ONNX file that can be run"):
        reference.load(str(tmp_path / "bad.onnx"))
    with pytest.raises(InputError, match=r"takes 2 inputs, not one of \(N, C, H, W\); export it so"):
        reference.load(str(onnx_file(tmp_path / "two.onnx", inputs=2)))
    with pytest.raises(InputError, match="no such file; check the path"):
        reference.load(str(tmp_path / "absent.onnx"))


def test_square_attacks_it_and_gradients_are_refused(tmp_path: Path) -> None:
    network = reference.load(program(tmp_path), num_classes=2, input_size=(1, 6, 6))
    pixels = torch.tensor([0.45, 0.55]).view(2, 1, 1, 1).expand(2, 1, 6, 6).contiguous()
    labels = torch.tensor([0, 1])
    params = AttackParams(parse_method("square:queries=4"), eps=0.2, goal="robustness")
    found = attack([network], pixels, labels, torch.arange(2), params)
    assert bool((network(found.images).argmax(1) != labels).any())
    with pytest.raises(InputError, match="gives no gradient by its input, so it can only be a victim"):
        attack([network], pixels, labels, torch.arange(2), AttackParams(parse_method("pgd")))


SURROGATE = """
import torch
from torch import nn


class R(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        s = 10 * self.w * (x.mean((1, 2, 3)) - 0.5)
        return torch.cat([torch.stack([-s, s], 1), torch.full((len(x), 8), -99.0)], 1)


def make(): return R()
"""


def test_a_matrix_with_a_program_as_a_victim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is R in other clothes, so that all transfers; there are no cosines of its gradients."""
    monkeypatch.chdir(tmp_path)
    pixels = images(12)
    np.savez("data.npz", images=pixels.numpy(), labels=wanted(pixels).argmax(1).numpy())
    Path("r.py").write_text(SURROGATE)
    victim = program(tmp_path, 'a = answer["logits"]; answer = {"logits": np.c_[a, np.full((len(a), 8), -99.0)]}')
    command = [
        "transfer-matrix",
        "R=r.py:make",
        f"V={victim}",
        "--surrogate",
        "R",
        "--data",
        "data.npz",
        "--eps",
        "0.4",
    ]
    assert run([*command, "--eps", "0.4", "-q", "--report", "m.json"]) == 0
    result = json.loads(Path("m.json").read_text())["result"]
    (pair,) = [one for one in result["pairs"] if one["victim"] == "V"]
    assert pair["cond"]["successes"] == pair["cond"]["total"] == 12
    assert result["gradients"] is None
