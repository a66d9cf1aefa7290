"""One logit is the log-odds of class 1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from advkit.models.build import assemble
from advkit.models.config import ModelConfig
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.models.one_logit import as_two_classes
from advkit.tasks.classification import CLASSIFICATION

SIZE = (1, 6, 6)


def binary() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
    return assemble(net, "net.py:f", "net.py:f", ModelConfig(1, SIZE, (0.5,), (0.5,), ("cat",)), {}).eval()


def test_loss_and_gradient_are_those_of_binary_cross_entropy() -> None:
    network = binary()
    two = as_two_classes(network)
    images = torch.rand(8, *SIZE, generator=torch.Generator().manual_seed(1)).requires_grad_()
    classes = torch.arange(8) % 2
    wanted = F.binary_cross_entropy_with_logits(network(images).squeeze(1), classes.float(), reduction="none")
    losses, correct = CLASSIFICATION.losses(two, images, classes)
    assert torch.allclose(losses, wanted, atol=1e-6)
    assert correct.bool().tolist() == ((network(images).squeeze(1) > 0) == classes.bool()).tolist()
    (expected,) = torch.autograd.grad(wanted.sum(), images)
    (found,) = torch.autograd.grad(losses.sum(), images)
    assert torch.allclose(found, expected, atol=1e-6)
    assert float(found.abs().max()) > 1e-3


def test_it_keeps_its_identity_and_says_what_it_is() -> None:
    network = binary()
    two = as_two_classes(network)
    assert (two.spec.num_classes, two.spec.labels, two.spec.sha256) == (2, (), network.spec.sha256)
    assert "log-odds of class 1" in two.spec.notes[-1]
    assert not two.training
    images = torch.rand(4, *SIZE)
    assert torch.allclose(fuse_conv_bn(two)(images), two(images), atol=1e-5)
