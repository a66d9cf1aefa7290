"""Global, weak alignment of a detector's domains (Saito et al. 2019): the last map, by a focal loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advkit.adaptation.detector_maps import channels_of, last
from advkit.adaptation.domain_classifier import (
    domain_accuracy,
    domain_counts,
    focal_loss,
    make_seeded,
    reversed_logits,
)
from advkit.adaptation.method import Addition, MapMethod, MethodContext
from advkit.data import counter_rng

NAME = "global_domain"


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


class GlobalAlignment(MapMethod):
    """A domain classifier of whole images; those that it tells apart easily hardly count."""

    measures = (f"{NAME}_right", f"{NAME}_images")

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        _, channels = channels_of(context.network)
        seed = counter_rng.stream("global domain classifier", context.params.seed)
        self.classifier = make_seeded(lambda: GlobalClassifier(channels), seed, context.network.mean)
        self.trained = self.classifier

    def addition(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> Addition:
        """The focal loss of both domains."""
        maps, count = [last(group) for group in (*source, *target)], len(source)
        logits = reversed_logits(self.classifier, maps, self.context.settings.weight)
        loss = focal_loss(torch.cat(logits[:count]), torch.cat(logits[count:]))
        return Addition(loss, domain_counts(logits[:count], logits[count:], NAME))

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The domain classifier's accuracy."""
        return domain_accuracy(sums, NAME)
