"""Genomes as networks: they run, have the derivatives that attacks and penalties need, fold, and cost what was said."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from genomes import disguised, genome, genomes, lived_in, node
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from advkit.files.errors import InputError
from advkit.models.build import assemble, create, seeded
from advkit.models.config import ModelConfig
from advkit.models.feature_layers import last_spatial
from advkit.models.fuse import fold_pairs, fuse_conv_bn
from advkit.models.genome.canonical import canonical
from advkit.models.genome.decode import GenomeNet
from advkit.models.genome.genes import STEMS, Head, Stem, to_json
from advkit.models.genome.limits import Limits, cost, why_invalid
from advkit.models.genome.presets import PRESETS, named

SIZES = [(3, 16, 16), (1, 16, 19), (3, 17, 23)]
ROOMY = Limits(max_parameters=10**9, max_multiply_adds=10**12, max_depth=1000)
sizes = st.sampled_from(SIZES)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def decoded(found, size=SIZES[0], classes=4, seed=0) -> GenomeNet:
    return seeded(lambda: GenomeNet(found, classes, size), seed)


def images(n, size, seed=0) -> torch.Tensor:
    return torch.randn(n, *size, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(genomes(), sizes)
def test_runs_forward_backward_and_twice(found, size):
    assert why_invalid(found, 4, size, ROOMY) is None
    net = decoded(found, size)
    x = images(4, size).requires_grad_()
    logits = net(x)
    assert logits.shape == (4, 4)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, torch.arange(4)), x, create_graph=True)
    assume(gradient.abs().max() > 0)  # a ReLU over a handful of channels may start dead
    gradient.square().sum().sqrt().backward()
    found_gradients = [p.grad for p in net.parameters() if p.grad is not None]
    assert found_gradients
    assert all(bool(torch.isfinite(g).all()) for g in [logits, gradient, *found_gradients])


@settings(max_examples=60, deadline=None)
@given(genomes(), sizes)
def test_folds_to_the_same_function(found, size):
    net = lived_in(decoded(found, size), size)
    norms = [name for name, module in net.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(norm for _, norm in fold_pairs(net)) == sorted(norms)
    network = assemble(net, "g", "advkit/genome", ModelConfig(4, size, (0.5,) * size[0], (0.3,) * size[0]), {}).eval()
    quick = fuse_conv_bn(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.modules())
    pixels = torch.rand(8, *size, generator=torch.Generator().manual_seed(3))
    expected, got = network(pixels), quick(pixels)
    assert (expected - got).abs().max() <= 1e-4 * expected.abs().max()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_genomes_that_mean_the_same_give_the_same_bits(data):
    found = data.draw(genomes())
    one, other = decoded(found), decoded(data.draw(disguised(found)))
    assert list(one.state_dict()) == list(other.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    x = images(3, SIZES[0])
    assert torch.equal(one(x), other(x))
    assert decoded(found, seed=1).state_dict()["stem.0.weight"].ne(one.state_dict()["stem.0.weight"]).any()


@settings(max_examples=60, deadline=None)
@given(genomes(most_nodes=7), sizes, st.sampled_from([2, 7]))
def test_costs_what_a_forward_pass_shows(found, size, classes):
    net = decoded(found, size, classes).eval()
    expected = cost(found, classes, size)
    assert longest_path(net) == expected.depth
    adds, maps = [], []

    def see(module, inputs, out):
        if isinstance(module, nn.Conv2d):
            adds.append(out[0].numel() * module.weight[0].numel())
        elif isinstance(module, nn.Linear):
            adds.append(module.weight.numel())
        if out.ndim == 4:
            maps.append(min(out.shape[2:]))

    for module in net.modules():
        module.register_forward_hook(see)
    net(images(1, size))
    assert sum(adds) == expected.multiply_adds
    assert sum(p.numel() for p in net.parameters()) == expected.parameters
    assert min(maps) == expected.smallest_map


def longest_path(net: nn.Module) -> int:
    depth: dict[torch.fx.Node, int] = {}
    for one in torch.fx.symbolic_trace(net).graph.nodes:
        own = one.op == "call_module" and isinstance(net.get_submodule(str(one.target)), nn.Conv2d)
        depth[one] = own + max((depth[before] for before in one.all_input_nodes), default=0)
    return max(depth.values())


def seen(net: nn.Module, x: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Input and output of every module."""
    found = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _, i, o, name=name: found.update({name: (i[0], o)}))
    net(x)
    return found


def test_a_sum_of_unlike_maps():
    """16 pixels and 4 channels, 8 and 6, 4 and 9: the sum has 4 pixels and 9 channels, the others amid zeros."""
    found = genome(node(1, (0,), channels=6, stride=2), node(2, (1,), channels=9, stride=2), node(3, (0, 1, 2)))
    at = seen(decoded(found).eval(), images(2, SIZES[0]))
    stem, one, two = (at[name][1] for name in ("stem", "nodes.1", "nodes.2"))
    expected = two.clone()
    expected[:, 2:6] += F.avg_pool2d(stem, 4)
    expected[:, 1:7] += F.avg_pool2d(one, 2)
    torch.testing.assert_close(at["nodes.3"][0], expected)


def test_concatenation_goes_by_canonical_numbers():
    found = genome(node(8, (0,), channels=6, kernel=5), node(5, (0,), channels=9, stride=2), node(1, (8, 5, 0),
                   merge="concat"))  # fmt: skip
    at = seen(decoded(found).eval(), images(2, SIZES[0]))
    numbers = {n.channels: n.id for n in canonical(found).nodes}
    maps = [F.avg_pool2d(at["stem"][1], 2)]
    for number in sorted((numbers[6], numbers[9])):
        one = at[f"nodes.{number}"][1]
        maps.append(one if one.shape[2] == 8 else F.avg_pool2d(one, 2))
    torch.testing.assert_close(at["nodes.3"][0], torch.cat(maps, 1))
    assert at["nodes.3"][0].shape == (2, 4 + 6 + 9, 8, 8)


@pytest.mark.parametrize(("channels", "stride", "depth"), [(4, 1, 1), (9, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_a_residual_node(channels, stride, depth):
    """relu(norm(conv(...)) + shortcut): the narrower of the two amid zeros, the shortcut averaged to the same map."""
    fields = {"channels": channels, "stride": stride, "depth": depth, "skip": "residual"}
    at = seen(decoded(genome(node(1, (0,), **fields))).eval(), images(2, SIZES[0]))
    before, out = at["nodes.1"]
    branch = at[f"nodes.1.{3 * depth - 2}"][1]
    shortcut = F.avg_pool2d(before, 2) if stride == 2 else before
    width = max(channels, 4)
    expected = torch.zeros_like(out)
    for one in (branch, shortcut):
        start = (width - one.shape[1]) // 2
        expected[:, start : start + one.shape[1]] += one
    torch.testing.assert_close(out, F.relu(expected))
    assert out.shape[1] == width


def test_a_dense_node():
    at = seen(decoded(genome(node(1, (0,), channels=6, stride=2, skip="dense"))).eval(), images(2, SIZES[0]))
    before, out = at["nodes.1"]
    torch.testing.assert_close(out, torch.cat((F.relu(at["nodes.1.1"][1]), F.avg_pool2d(before, 2)), 1))


@pytest.mark.parametrize("kind", STEMS)
def test_odd_sides_are_halved_rounding_up(kind):
    size = (1, 19, 23)
    halvings = {"conv7s2": 1, "patch2": 1, "patch4": 2}.get(kind, 0)
    found = genome(node(1, (0,), stride=2, op="avg-pool"), node(2, (0, 1)), stem=Stem(kind, 4, "none", "relu"))
    net = decoded(found, size).eval()
    at = seen(net, images(1, size))
    sides = [tuple(-(-n // 2**h) for n in size[1:]) for h in (halvings, halvings + 1)]
    assert [tuple(at[name][1].shape[2:]) for name in ("stem", "nodes.1")] == sides
    with torch.no_grad():  # constant maps stay what they are, also in the windows that stick out
        net.stem[0].weight.zero_()
        net.stem[0].bias.fill_(1.5)
    torch.testing.assert_close(seen(net, images(1, size))["nodes.2"][0], torch.full((1, 4, *sides[1]), 3.0))


def test_patches_see_each_pixel_once():
    """A 4x4 patch that sums: the last ones are filled with zeros."""
    net = decoded(genome(stem=Stem("patch4", 1, "none", "relu")), (1, 16, 18))
    with torch.no_grad():
        net.stem[0].weight.fill_(1)
    found = seen(net, torch.ones(1, 1, 16, 18))["stem"][1]
    assert found[0, 0, 0].tolist() == [16, 16, 16, 16, 8]
    assert found.shape == (1, 1, 4, 5)


def test_grouped_separable_and_dilated_layers():
    at = decoded(genome(
        node(1, (0,), op="grouped", channels=12, kernel=5), node(2, (1,), op="separable", channels=6, depth=2),
        node(3, (2,), op="grouped", channels=8), node(4, (3,), op="dilated", channels=8, norm="group"),
    ))  # fmt: skip
    first, separable, second, dilated = (list(at.nodes[str(k)]) for k in (1, 2, 3, 4))
    assert (first[0].groups, second[0].groups) == (4, 2)  # as many of four as 6 and 8 channels are divisible by
    kinds = [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in separable] == kinds * 2
    assert [(layer.groups, layer.kernel_size[0]) for layer in (separable[0], separable[1])] == [(12, 3), (1, 1)]
    assert dilated[0].dilation == (2, 2)
    assert dilated[1].num_groups == 8
    assert all(layer.bias is None for layer in (*first, *separable, *dilated) if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("pool", ["mean", "max", "both"])
@pytest.mark.parametrize("hidden", [0, 5])
def test_heads(pool, hidden):
    net = decoded(genome(head=Head(pool, hidden)))
    at = seen(net, images(2, SIZES[0]))
    out = at["stem"][1]
    features = {"mean": [out.mean((2, 3))], "max": [out.amax((2, 3))]}
    features["both"] = features["mean"] + features["max"]
    torch.testing.assert_close(at["head"][0], torch.cat(features[pool], 1))
    assert [m.out_features for m in net.head if isinstance(m, nn.Linear)] == ([5, 4] if hidden else [4])


def test_names_are_canonical_numbers():
    names = set(decoded(genome(node(40, (0,)), node(7, (40,), op="max-pool"), node(20, (7,)))).state_dict())
    assert {name.rpartition(".")[0] for name in names} == {
        "stem.0", "stem.1", "nodes.1.0", "nodes.1.1", "nodes.3.0", "nodes.3.1", "head.0"
    }  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_those_made_by_hand(name):
    size = (3, 32, 32)
    network = create(f"advkit/genome:{name}", num_classes=10, input_size=size)
    assert why_invalid(named(name), 10, size, Limits()) is None
    assert network.net.genome == canonical(named(name))
    assert 0.1 < network(torch.rand(16, *size)).std() < 10
    assert last_spatial(network) is not None
    if name == "resnet20":
        original = create("advkit/resnet20", num_classes=10, input_size=size)
        shapes = [sorted(tuple(p.shape) for p in n.net.parameters()) for n in (network, original)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("found", "limits", "words"),
    [
        (named("patch"), {"max_parameters": 300_169}, "300,170 parameters; at most 300,169"),
        (named("patch"), {"max_multiply_adds": 10**6}, "multiply-adds; at most 1,000,000"),
        (named("resnet20"), {"max_depth": 18}, "19 convolutions on its longest path; at most 18"),
        (named("stem7"), {"min_map": 5}, "smallest map is 4 pixels wide; at least 5"),
        (named("resnet20"), {"max_nodes": 8}, "9 active nodes; at most 8"),
        (genome(node(1, (2,)), node(2, (1,))), {}, "cycle"),
        (genome(node(1, (0,), kernel=9)), {}, r"nodes\[0\]\.kernel"),
        (genome(*[node(k, (k - 1,), channels=1024, skip="dense") for k in range(1, 10)]), {}, "8192 are allowed"),
    ],
    ids=lambda value: "",
)  # fmt: skip
def test_reasons_to_be_invalid(found, limits, words):
    import re

    assert re.search(words, why_invalid(found, 10, (3, 32, 32), Limits(**limits)))


def test_what_hits_a_limit_exactly_is_valid():
    found = cost(named("resnet20"), 10, (3, 32, 32))
    limits = Limits(found.parameters, found.multiply_adds, found.depth, found.smallest_map, 9)
    assert why_invalid(named("resnet20"), 10, (3, 32, 32), limits) is None


def test_costs_are_told_fast():
    found, seconds = named("resnet20"), []
    for _ in range(10):
        start = time.perf_counter()
        why_invalid(found, 10, (3, 32, 32), Limits())
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.005


@pytest.mark.parametrize(
    ("found", "size", "words"),
    [
        (named("stem7"), (3, 8, 8), "less than a 2x2 map of 8x8 images"),
        (genome(*[node(k, (k - 1,), channels=1024, kernel=7, depth=3) for k in range(1, 9)]), (3, 8, 8),
         "parameters and .* at most 100,000,000"),
        (genome(node(1, tuple(range(2, 64)), merge="concat"), *[node(k, (0,), channels=1024) for k in range(2, 64)],
                output=1), (3, 8, 8), "8192 are allowed"),
        (genome(node(1, (5,))), (3, 8, 8), "no node"),
    ],
    ids=["small", "large", "wide", "unsound"],
)  # fmt: skip
def test_no_network(found, size, words):
    with pytest.raises(InputError, match=words) as caught:
        GenomeNet(found, 10, size)
    assert "\n" not in str(caught.value)


def test_the_genome_of_a_network_is_json_again():
    assert to_json(decoded(replace(named("patch"), output=1)).genome)["nodes"][0]["id"] == 1
