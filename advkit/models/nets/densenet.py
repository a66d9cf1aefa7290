"""DenseNet without bottleneck or compression (Huang, Liu, van der Maaten, Weinberger, CVPR 2017)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.models.nets.initialise import kaiming


class DenseLayer(nn.Module):
    """Adds ``growth`` channels, made from all channels so far, to them."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.conv1(F.relu(self.bn1(x)))), 1)


class DenseBlock(nn.Module):
    """``layers`` dense layers, under the name ``layer`` as in the state dicts in circulation."""

    def __init__(self, in_channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(DenseLayer(in_channels + i * growth, growth) for i in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.layer(x))


class Transition(nn.Module):
    """Between two blocks: 1x1 convolution, then the mean over 2x2 pixels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-depth-growth: three blocks of (depth - 4) / 3 layers; 16 channels at first."""

    def __init__(self, depth: int, growth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers = (depth - 4) // 3
        added = layers * growth
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.block1 = DenseBlock(16, growth, layers)
        self.trans1 = Transition(16 + added)
        self.block2 = DenseBlock(16 + added, growth, layers)
        self.trans2 = Transition(16 + 2 * added)
        self.block3 = DenseBlock(16 + 2 * added, growth, layers)
        self.bn1 = nn.BatchNorm2d(16 + 3 * added)
        self.fc = nn.Linear(16 + 3 * added, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        out = self.trans1(self.block1(self.conv1(x)))
        out = self.block3(self.trans2(self.block2(out)))
        return cast(Tensor, self.fc(F.relu(self.bn1(out)).mean((2, 3))))
