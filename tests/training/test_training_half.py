"""The penalty in bfloat16: the same function, with the same gradient, but for rounding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from advkit.models.build import create
from advkit.models.genome.genes import to_json
from advkit.models.genome.presets import named
from advkit.models.network import Network
from advkit.training.misalign import Misalignment, MisalignTerms
from advkit.training.params import MisalignParams


def smooth() -> dict[str, Any]:
    """Group norms, SiLU and GELU, a separable convolution and a mean pool."""
    genome = to_json(named("stem7"))
    genome["stem"] |= {"norm": "group", "activation": "silu"}
    for node, changes in zip(
        genome["nodes"], ({"norm": "group", "activation": "gelu"}, {"op": "separable"}, {"op": "avg-pool"}), strict=True
    ):
        node |= changes
    return genome


def network(arch: str, seed: int) -> Network:
    arguments = {"genome": smooth()} if arch == "advkit/genome" else {}
    found = create(arch, num_classes=10, input_size=(3, 16, 16), seed=seed, model_args=arguments)
    found.net.to(memory_format=torch.channels_last)
    return found


def penalty(arch: str, half: bool) -> tuple[MisalignTerms, Tensor]:
    """Terms, and the gradient by all weights in one vector."""
    trained, reference = network(arch, 0), network("advkit/resnet8", 1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(16, 3, 16, 16, generator=generator)
    labels = torch.randint(0, 10, (16,), generator=generator)
    params = MisalignParams(at=("clean", "noise"), penalty="signed", smoothness=0.1)
    misalignment = Misalignment(trained, [reference], params, seed=0, half=half)
    trained.train()
    misalignment.prepare()
    trained(images)
    terms = misalignment(images, labels, torch.arange(16), 0)
    terms.penalty.mean().backward()  # type: ignore[no-untyped-call]
    return terms, torch.cat([p.grad.flatten() for p in trained.net.parameters() if p.grad is not None])


@pytest.mark.parametrize("arch", ["advkit/resnet8", "advkit/genome:stem7", "advkit/genome"])
def test_half_precision_is_the_same_function_but_for_rounding(arch: str) -> None:
    (whole, expected), (half, found) = penalty(arch, False), penalty(arch, True)
    assert half.penalty.dtype == found.dtype == torch.float32
    assert 0 < abs(half.cosine.sum().item() - whole.cosine.sum().item()) < 16 * 0.005
    assert half.norm.sum().item() == pytest.approx(whole.norm.sum().item(), rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(expected, found, dim=0)
    assert cosine > 0.99
    assert found.norm().item() == pytest.approx(expected.norm().item(), rel=0.03)
