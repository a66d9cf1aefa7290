"""Small-image networks that neither timm nor torchvision has. One family a file, one line each in the registry.

Factories take ``num_classes`` and ``in_channels`` and return a module from normalised images (N, C, H, W), H and W at
least 8, to logits (N, num_classes).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from advkit.models.nets.cnn import CNN
from advkit.models.nets.densenet import DenseNet
from advkit.models.nets.preact import PreActResNet
from advkit.models.nets.resnet import ResNet
from advkit.models.nets.vgg import VGG
from advkit.models.nets.wide import WideResNet

NETS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(ResNet, 8),
    "resnet20": partial(ResNet, 20),
    "resnet32": partial(ResNet, 32),
    "resnet44": partial(ResNet, 44),
    "resnet56": partial(ResNet, 56),
    "preact-resnet18": PreActResNet,
    "wrn-16-4": partial(WideResNet, 16, 4),
    "densenet-40-12": partial(DenseNet, 40, 12),
    "vgg11": partial(VGG, 11),
    "vgg16": partial(VGG, 16),
    "cnn": CNN,
}
