"""Fresh weights of genomes: without norms, too, maps keep their scale and deep networks train."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from genomes import genome, genomes, node
from hypothesis import given, settings
from test_models_genome_decode import SIZES, decoded, images, seen

from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import ACTIVATIONS, Stem


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@settings(max_examples=40, deadline=None)
@given(genomes(side=4, norms=("none",)))
def test_activations_without_norms_keep_their_scale(found):
    """On maps of 16 pixels and more: on tiny ones most of what a dilated kernel sees is padding."""
    at = seen(decoded(found, (3, 32, 32)), images(8, (3, 32, 32)))
    for name in ["stem", *(f"nodes.{n.id}" for n in canonical(found).nodes)]:
        assert 0.01 < at[name][1].square().mean().sqrt() < 50, name


@pytest.mark.parametrize(
    ("activation", "skip"),
    [
        pytest.param(activation, skip, marks=[pytest.mark.slow] if skip != "none" and activation != "relu" else [])
        for activation in ACTIVATIONS
        for skip in ("none", "residual", "dense")
    ],
)
def test_deep_networks_without_norms_train(activation, skip):
    """23 to 25 convolutions learn in 40 steps, which neither vanishing nor exploding maps would allow."""
    depth, count = (3, 8) if skip == "none" else (2, 11)
    fields = {"norm": "none", "activation": activation, "skip": skip, "channels": 8, "depth": depth}
    nodes = [node(k, (k - 1,), stride=2 if k == 2 else 1, **fields) for k in range(1, count + 1)]
    net = decoded(genome(*nodes, stem=Stem("conv3", 8, "none", activation)), (1, 8, 8), seed=3)
    x, y = images(64, (1, 8, 8)), torch.arange(64) % 4
    x = x + y[:, None, None, None] * images(1, (1, 8, 8), seed=5)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = F.cross_entropy(net(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 10
    assert losses[-1] < 0.75 * losses[0]


def test_residual_branches_without_norm_start_small():
    def branch(count: int, norm: str) -> float:
        nodes = [node(k, (k - 1,), norm=norm, depth=2, skip="residual") for k in range(1, count + 1)]
        return decoded(genome(*nodes)).nodes["1"][-2 if norm == "none" else -3].weight.std().item()

    assert branch(9, "none") == pytest.approx(branch(1, "none") * 2 / 10, rel=0.3)
    assert branch(9, "batch") == pytest.approx(branch(1, "batch"), rel=0.3)


def test_a_long_row_of_residual_nodes_without_norms_is_reckoned_right():
    """The first convolution of each node gives unit variance, which takes the second moment of what was summed up."""
    nodes = [node(k, (k - 1,), norm="none", channels=16, skip="residual", depth=2) for k in range(1, 13)]
    at = seen(decoded(genome(*nodes, stem=Stem("conv3", 16, "none", "relu"))), images(16, SIZES[0]))
    for number in (1, 6, 12):
        assert 0.6 < at[f"nodes.{number}.0"][1].std() < 1.6
