"""Local, strong alignment of a detector's domains (Saito et al. 2019): each place of a low-level map, least squares."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from advkit.adaptation.detector_maps import low_level_map, map_channels
from advkit.adaptation.domain_classifier import least_squares_loss
from advkit.adaptation.map_alignment import MapAlignment


def local_classifier(channels: int) -> nn.Module:
    """1x1 convolutions to 256, 128 and 1 channel: a logit at each place of maps (n, C, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, 256, 1), nn.ReLU(), nn.Conv2d(256, 128, 1), nn.ReLU(), nn.Conv2d(128, 1, 1)
    )


class LocalAlignment(MapAlignment):
    """A domain classifier of each place."""

    name = "local_domain"
    measures = ("local_domain_right", "local_domain_images")

    def make(self) -> nn.Module:
        """On the low-level map."""
        return local_classifier(map_channels(self.context.network)[0])

    def map_of(self, maps: Sequence[Tensor]) -> Tensor:
        """The low-level one."""
        return low_level_map(maps)

    def loss(self, source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """The least squares of both domains."""
        return least_squares_loss(source, target)
