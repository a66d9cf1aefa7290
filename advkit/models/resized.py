"""A network that takes images of another size than its own: it resizes them first."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.models.network import Network


class Resized(nn.Module):
    """``net`` behind a bilinear resize with antialiasing, which is linear: normalising before or after is the same.

    Attributes:
        net: what it is for, from (N, C, H, W) to (N, K).
        size: (H, W) that ``net`` takes.
    """

    def __init__(self, net: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.net, self.size = net, size

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits of images (N, C, h, w) of any size."""
        logits: Tensor = self.net(F.interpolate(images, self.size, mode="bilinear", antialias=True))
        return logits


def resized(network: Network, height: int, width: int) -> Network:
    """``network`` for images of ``height`` and ``width``; itself if it takes those. Its identity stays."""
    channels, *own = network.spec.input_size
    if own == [height, width]:
        return network
    wrapped = Network(
        Resized(network.net, (own[0], own[1])), replace(network.spec, input_size=(channels, height, width))
    )
    return wrapped.to(network.mean.device).train(network.training)
