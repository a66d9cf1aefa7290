"""VGG with batch-norm (Simonyan and Zisserman 2015) for small images: one linear layer after a global mean."""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

_STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(nn.Module):
    """VGG-11 or VGG-16: 3x3 convolutions, a 2x2 maximum (sides rounded up) between stages."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = in_channels
        for widths in _STAGES[depth]:
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.linear = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        for number, stage in enumerate(self.stages):
            if number:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = stage(x)
        return cast(Tensor, self.linear(x.mean(dim=(2, 3))))
