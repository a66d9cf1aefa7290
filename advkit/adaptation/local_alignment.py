"""Local, strong alignment of a detector's domains (Saito et al. 2019): an early map, place by place, least squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from advkit.adaptation.detector_maps import channels_of, early
from advkit.adaptation.domain_classifier import (
    domain_accuracy,
    domain_counts,
    least_squares_loss,
    make_seeded,
    reversed_logits,
)
from advkit.adaptation.method import Addition, MapMethod, MethodContext
from advkit.data import counter_rng

NAME = "local_domain"


def local_classifier(channels: int) -> nn.Module:
    """1x1 convolutions to 256, 128 and 1 channel: a logit at each place of maps (n, C, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, 256, 1), nn.ReLU(), nn.Conv2d(256, 128, 1), nn.ReLU(), nn.Conv2d(128, 1, 1)
    )


class LocalAlignment(MapMethod):
    """A domain classifier of each place."""

    measures = (f"{NAME}_right", f"{NAME}_images")

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        channels, _ = channels_of(context.network)
        seed = counter_rng.stream("local domain classifier", context.params.seed)
        self.classifier = make_seeded(lambda: local_classifier(channels), seed, context.network.mean)
        self.trained = self.classifier

    def addition(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> Addition:
        """The least squares of both domains."""
        maps, count = [early(group) for group in (*source, *target)], len(source)
        logits = reversed_logits(self.classifier, maps, self.context.settings.weight)
        counts = domain_counts(logits[:count], logits[count:], NAME)
        return Addition(least_squares_loss(logits[:count], logits[count:]), counts)

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The share of places on the right side."""
        return domain_accuracy(sums, NAME)
