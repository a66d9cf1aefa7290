"""Small-image networks that the field trains on CIFAR-sized pictures and neither timm nor torchvision has.

Every builder takes ``(num_classes, in_channels)`` and gives a module from normalised (N, C, H, W) images, any H and W
of at least 8, to (N, num_classes) logits. To add a network: one file, one line here; the tests run over this table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from advkit.models.nets.cnn import CNN
from advkit.models.nets.densenet import DenseNet
from advkit.models.nets.preact_resnet import PreActResNet
from advkit.models.nets.resnet import ResNet
from advkit.models.nets.vgg import VGG
from advkit.models.nets.wide_resnet import WideResNet

MIN_SIDE = 8  # pixels; below it the deepest maps are a single one

NETS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet8": partial(ResNet, 1),
    "resnet20": partial(ResNet, 3),
    "resnet32": partial(ResNet, 5),
    "resnet44": partial(ResNet, 7),
    "resnet56": partial(ResNet, 9),
    "vgg11": partial(VGG, "vgg11"),
    "vgg16": partial(VGG, "vgg16"),
    "wrn-16-4": partial(WideResNet, 16, 4),
    "densenet-40-12": partial(DenseNet, 40, 12),
    "preact-resnet18": partial(PreActResNet, (2, 2, 2, 2)),
    "cnn": CNN,
}
