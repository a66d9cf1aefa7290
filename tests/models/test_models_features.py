"""Features of images: which layer, how its outputs become one row, and that batch-mates don't matter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models import build, reference
from advkit.models.features import PixelFeatures, layer_features
from advkit.models.network import ModelSpec, Network
from advkit.models.resized import resized


def network_of(net: nn.Module, classes: int = 5) -> Network:
    spec = ModelSpec("mine", "", "mine", classes, (3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    return Network(net, spec).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_pixels_are_the_images_themselves(images: Tensor) -> None:
    assert torch.equal(PixelFeatures()(images).view_as(images), images)


def test_a_classifiers_features_go_into_its_last_layer(images: Tensor) -> None:
    network = reference.load("advkit/cnn", num_classes=5, input_size=(3, 16, 16))
    found = layer_features(network)
    assert found.layer == "input of classifier"
    net, x = network.net, (images - network.mean) / network.std
    assert found(images) == pytest.approx(net.features(x).mean((2, 3)), abs=1e-6)
    assert net.classifier(found(images)) == pytest.approx(network(images), abs=1e-5)


def test_a_named_layer_is_averaged_over_the_places(images: Tensor) -> None:
    network = reference.load("advkit/resnet8", num_classes=5, input_size=(3, 16, 16))
    names = [name for name, module in network.net.named_modules() if isinstance(module, nn.Conv2d)]
    found = layer_features(network, names[2])
    maps: list[Tensor] = []
    network.net.get_submodule(names[2]).register_forward_hook(lambda module, inputs, output: maps.append(output))
    rows = found(images)
    assert rows == pytest.approx(maps[-1].mean((2, 3)), abs=1e-6)
    assert found.layer == names[2]


def test_a_resized_network_has_the_layers_of_its_own(images: Tensor) -> None:
    network = resized(reference.load("advkit/cnn", num_classes=5, input_size=(3, 8, 8)), 16, 16)
    assert layer_features(network).layer == "input of classifier"
    assert layer_features(network, "features.0")(images).shape == (6, 32)


def test_a_detectors_features_are_all_levels_of_its_backbone() -> None:
    network = reference.load("advkit/tiny-ssd", num_classes=3, input_size=(3, 96, 96))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = layer_features(network)
    levels = network.net.backbone((images - network.mean) / network.std)
    assert found.layer == "backbone"
    assert found(images) == pytest.approx(torch.cat([level.mean((2, 3)) for level in levels.values()], 1), abs=1e-5)


class Tokens(nn.Module):
    """Two heads of different sizes over tokens; the features change in place once they were put out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.unused = nn.Conv2d(3, 7, 4, 4), nn.Identity()
        self.side, self.head = nn.Linear(7, 2), nn.Linear(7, 5)
        self.scalar = nn.Flatten(0)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).mT
        self.scalar(tokens)
        tokens = tokens.contiguous()
        self.side(tokens.mean(1))
        logits: Tensor = self.head(tokens.mean(1))
        return logits


def test_tokens_are_averaged_and_a_head_of_other_size_is_none(images: Tensor) -> None:
    network = network_of(Tokens())
    assert layer_features(network).layer == "input of head"
    assert layer_features(network, "side")(images).shape == (6, 2)
    without = network_of(Tokens(), classes=9)
    assert layer_features(without).layer == "embed", "the last map, where no layer gives the logits"


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(768, 8), nn.ReLU(inplace=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.relu(self.first(x.flatten(1))))
        return logits


def test_what_works_in_place_afterwards_changes_no_feature(images: Tensor) -> None:
    assert float(layer_features(network_of(InPlace()), "first")(images).min()) < 0


@pytest.mark.parametrize(
    ("layer", "word"),
    [("hed", "such as head"), ("unused", "is not called"), ("scalar", "puts out no rows of features")],
)
def test_a_layer_that_gives_no_features_is_refused(layer: str, word: str, images: Tensor) -> None:
    with pytest.raises(InputError) as error:
        layer_features(network_of(Tokens()), layer)(images)
    assert word in str(error.value)
    assert layer in str(error.value)


def test_batch_mates_do_not_matter(images: Tensor) -> None:
    found = layer_features(reference.load("advkit/resnet8", num_classes=5, input_size=(3, 16, 16)))
    assert torch.cat([found(one) for one in images.split(1)]) == pytest.approx(found(images), abs=1e-5)


def test_the_network_stays_as_it_was(images: Tensor) -> None:
    network = build.create("advkit/resnet8", num_classes=5, input_size=(3, 16, 16)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layer_features(network)(images)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
