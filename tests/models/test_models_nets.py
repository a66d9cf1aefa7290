"""Small-image networks: shapes, sizes known from the papers, seeded weights."""

from __future__ import annotations

import pytest
import torch

from advkit.files.errors import InputError
from advkit.models.build import create
from advkit.models.feature_layers import last_spatial
from advkit.models.nets import NETS

SIZES = [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 17, 23)]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_from_eight_pixels(name, size):
    network = create(f"advkit/{name}", num_classes=7, input_size=size).eval()
    logits = network(torch.rand(2, *size))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()
    assert logits.std() > 0


@pytest.mark.parametrize(
    ("name", "millions"),
    # He et al. 2016, table 6 (0.27M, 0.46M, 0.66M, 0.85M); Huang et al. 2017, table 2 (1.0M);
    # Zagoruyko and Komodakis 2016 (WRN-16-4: 2.7M); Rice et al. 2020's PreActResNet-18 (11.2M).
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85), ("densenet-40-12", 1.0),
     ("wrn-16-4", 2.7), ("preact-resnet18", 11.2)],
)  # fmt: skip
def test_as_many_parameters_as_published(name, millions):
    network = create(f"advkit/{name}", num_classes=10, input_size=(3, 32, 32))
    count = sum(p.numel() for p in network.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.025)


@pytest.mark.parametrize("name", NETS)
def test_same_seed_same_bytes_and_global_randomness_left_alone(name):
    def make(seed: int) -> str:
        return create(f"advkit/{name}", num_classes=3, input_size=(1, 8, 8), seed=seed).spec.sha256

    state = torch.get_rng_state()
    first = make(1)
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(5)
    assert make(1) == first
    assert make(2) != first


def test_activations_keep_their_scale():
    """He initialisation: a plain net without its batch-norms neither explodes nor dies."""
    net = create("advkit/vgg16", num_classes=10, input_size=(3, 32, 32), seed=3).eval()
    maps = net.net.features(torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert 0.2 < maps.square().mean().sqrt() < 5


def test_normalisation_is_inside():
    network = create("advkit/cnn", num_classes=3, input_size=(3, 8, 8), mean=(0.1, 0.2, 0.3), std=(1, 2, 4)).eval()
    images = torch.rand(2, 3, 8, 8)
    by_hand = (images - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    torch.testing.assert_close(network(images), network.net(by_hand))
    assert not any(name in network.state_dict() for name in ("mean", "std"))


@pytest.mark.parametrize("name", NETS)
def test_last_spatial_map(name):
    network = create(f"advkit/{name}", num_classes=3, input_size=(3, 32, 32)).train()
    shapes = []
    module = last_spatial(network)
    assert network.training
    module.register_forward_hook(lambda *a: shapes.append(a[2].shape))
    network.eval()(torch.rand(1, 3, 32, 32))
    assert len(shapes[0]) == 4
    assert shapes[0][2] == shapes[0][3] <= 8


@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("advkit/resnet2", {}, "advkit/resnet20"),
        ("resnet20", {}, "advkit/resnet20"),
        ("timm/resnt18", {}, "timm/resnet18"),
        ("timm/hf_hub:someone/net", {}, "no such"),
        ("torchvision/vgg", {}, "torchvision/vgg1"),
        ("torchvision/resnet18", {"input_size": (1, 32, 32), "mean": (0,), "std": (1,)}, "colour"),
        ("advkit/cnn", {"input_size": (3, 7, 9)}, "8x8"),
        ("advkit/cnn", {"num_classes": 0}, "0 classes; give 1 to"),
        ("advkit/cnn", {"std": (1, 1, 0)}, "1e-06 or more"),
        ("advkit/cnn", {"mean": (1, 1)}, "one number for each of 3 channels"),
        ("advkit/cnn", {"labels": ("a", "b")}, "2 labels for 10 classes"),
        ("advkit/cnn", {"model_args": {"width": 3}}, "no model arguments"),
        ("timm/resnet18", {"model_args": {"checkpoint_path": "/x.pth"}}, "not allowed"),
        ("timm/resnet18", {"model_args": {"pretrained": True}}, "not allowed"),
        ("timm/resnet18", {"model_args": {"no_such": 1}}, "can't be built"),
    ],
)
def test_one_clear_line(architecture, changes, words):
    with pytest.raises(InputError, match=words) as caught:
        create(architecture, **{"num_classes": 10, "input_size": (3, 32, 32), **changes})
    assert "\n" not in str(caught.value)
