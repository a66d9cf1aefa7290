"""Pre-activation ResNet-18 (He et al. 2016, "Identity mappings") as the robustness literature trains it on CIFAR."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Batch-norm, ReLU, convolution, twice; a 1x1 convolution on the shortcut where shapes change."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(active)
        return cast(Tensor, self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut)


class PreActResNet(nn.Module):
    """18 layers, 64 to 512 channels."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
        widths = [64, 64, 128, 256, 512]
        self.layers = nn.Sequential(
            *[
                nn.Sequential(Block(before, after, 1 if number == 0 else 2), Block(after, after, 1))
                for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False))
            ]
        )
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        x = F.relu(self.bn(self.layers(self.conv1(x))))
        return cast(Tensor, self.linear(x.mean(dim=(2, 3))))
