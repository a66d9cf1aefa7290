"""Global, weak alignment of a detector's domains (Saito et al. 2019): the high-level map, by a focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.adaptation.detector_maps import high_level_map, map_channels
from advkit.adaptation.domain_classifier import focal_loss
from advkit.adaptation.map_alignment import MapAlignment


class GlobalClassifier(nn.Module):
    """Three convolutions of stride 2, the mean over what is left, and one logit for each image.

    Without the batch-norm of the paper: no image's domain depends on its batch-mates. It computes in float32: from 2x2
    to 1x1 pixels, the bfloat16 gradient of such a convolution's weights reads memory that nobody wrote (torch 2.14 on
    processors with AMX), and is another one each time, or NaN.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 512, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(512, 128, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(128, 128, 3, 2, 1), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, 1) logits of maps (n, C, h, w)."""
        found: Tensor = self.head(self.layers(maps).mean((2, 3)))
        return found


class GlobalAlignment(MapAlignment):
    """A domain classifier of whole images; those that it tells apart easily hardly count."""

    name = "global_domain"
    measures = ("global_domain_right", "global_domain_images")

    def make(self) -> nn.Module:
        """On the high-level map."""
        return GlobalClassifier(map_channels(self.context.network)[1])

    def map_of(self, maps: Sequence[Tensor]) -> Tensor:
        """The high-level one."""
        return high_level_map(maps)

    def loss(self, source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """The focal loss of both domains."""
        return focal_loss(torch.cat(list(source)), torch.cat(list(target)))
