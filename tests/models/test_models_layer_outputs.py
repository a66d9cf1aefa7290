"""Outputs of a layer: which, all of them, with a graph, and unharmed by what comes after."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models import build, reference
from advkit.models.features import layer_features
from advkit.models.heads import select_classes
from advkit.models.layer_outputs import LayerOutputs
from advkit.models.network import ModelSpec, Network
from advkit.models.one_logit import as_two_classes
from advkit.models.resized import resized


@pytest.fixture
def image() -> Tensor:
    return torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_default_is_the_last_map_place_by_place(image: Tensor) -> None:
    network = build.create("advkit/resnet8", num_classes=5, input_size=(3, 16, 16)).eval()
    found = LayerOutputs(network)
    assert found.layer == "layer3"
    maps = found(image)
    assert maps.shape == (1, 64 * 4 * 4)
    logits = network.net.linear(maps.view(1, 64, 4, 4).mean((2, 3)))
    torch.testing.assert_close(logits, network(image))


def test_a_detectors_default_is_all_levels_of_its_backbone() -> None:
    network = reference.load("advkit/tiny-ssd", num_classes=3, input_size=(3, 96, 96))
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found = LayerOutputs(network)
    levels = network.net.backbone((image - network.mean) / network.std)
    assert found.layer == "backbone"
    torch.testing.assert_close(found(image), torch.cat([level.flatten(1) for level in levels.values()], 1))


def test_the_graph_leads_back_to_the_image(image: Tensor) -> None:
    network = reference.load("advkit/cnn", num_classes=5, input_size=(3, 16, 16))
    point = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(LayerOutputs(network, "features.0")(point).sum(), point)
    assert gradient.abs().max() > 0
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


class Awkward(nn.Module):
    """A layer that is changed in place once it has spoken; one not called; one that gives no row for the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.last = nn.Linear(768, 8), nn.ReLU(inplace=True), nn.Linear(8, 5)
        self.unused, self.scalar = nn.Identity(), nn.Flatten(0)

    def forward(self, x: Tensor) -> Tensor:
        self.scalar(x)
        logits: Tensor = self.last(self.relu(self.first(x.flatten(1))))
        return logits


def awkward() -> Network:
    torch.manual_seed(0)
    spec = ModelSpec("mine", "", "mine", 5, (3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    return Network(Awkward(), spec).eval().requires_grad_(False)


def test_what_works_in_place_afterwards_changes_neither_outputs_nor_gradient(image: Tensor) -> None:
    network = awkward()
    point = image.clone().requires_grad_()
    found = LayerOutputs(network, "first")(point)
    assert float(found.detach().min()) < 0
    (gradient,) = torch.autograd.grad(found.sum(), point)
    torch.testing.assert_close(gradient.flatten(), network.net.first.weight.sum(0) / 0.5)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("hed", "no layer 'hed'"),
        ("unused", "layer unused is not called"),
        ("scalar", "layer scalar puts out no numbers"),
    ],
)
def test_a_layer_that_gives_nothing_is_refused_by_name(layer: str, words: str, image: Tensor) -> None:
    with pytest.raises(InputError) as error:
        LayerOutputs(awkward(), layer)(image)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_resized_network_has_the_layers_of_its_own(image: Tensor) -> None:
    network = resized(reference.load("advkit/resnet8", num_classes=5, input_size=(3, 8, 8)), 16, 16)
    assert LayerOutputs(network).layer == "layer3"
    assert LayerOutputs(network)(image).shape == (1, 64 * 2 * 2)


def test_some_classes_of_a_detector_leave_its_layers_their_names() -> None:
    whole = reference.load("advkit/tiny-ssd", num_classes=3, input_size=(3, 96, 96), labels=("cat", "dog", "eel"))
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    expected = LayerOutputs(whole)(image)
    for network in (select_classes(whole, ("eel", "cat")), resized(select_classes(whole, ("dog",)), 48, 48)):
        for layer in (None, "backbone"):
            found = LayerOutputs(network, layer)
            assert found.layer == "backbone"
            assert layer_features(network, layer).layer == "backbone"
            if network.spec.input_size == whole.spec.input_size:
                assert torch.equal(found(image), expected)


def test_some_classes_of_a_classifier_and_a_second_logit_leave_its_layers_their_names(image: Tensor) -> None:
    whole = reference.load("advkit/resnet8", num_classes=3, input_size=(3, 16, 16), labels=("cat", "dog", "eel"))
    one = reference.load("advkit/resnet8", num_classes=1, input_size=(3, 16, 16))
    for own, network in ((whole, select_classes(whole, ("dog", "cat"))), (one, as_two_classes(one))):
        for layer in (None, "layer3"):
            assert LayerOutputs(network, layer).layer == "layer3"
            assert torch.equal(LayerOutputs(network, layer)(image), LayerOutputs(own, "layer3")(image))
        assert layer_features(network, "layer2").layer == "layer2"
