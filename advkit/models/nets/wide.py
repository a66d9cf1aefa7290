"""Wide residual networks (Zagoruyko and Komodakis 2016)."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.models.nets.preact import Block


class WideResNet(nn.Module):
    """WRN of ``depth`` = 6n + 4 layers, ``width`` times 16, 32, 64 channels, no dropout."""

    def __init__(self, depth: int, width: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        count = (depth - 4) // 6
        widths = [16, 16 * width, 32 * width, 64 * width]
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        blocks: list[nn.Module] = []
        for number, (before, after) in enumerate(zip(widths, widths[1:], strict=False)):
            blocks.append(Block(before, after, 1 if number == 0 else 2))
            blocks += [Block(after, after, 1) for _ in range(count - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        x = F.relu(self.bn(self.blocks(self.conv1(x))))
        return cast(Tensor, self.linear(x.mean(dim=(2, 3))))
