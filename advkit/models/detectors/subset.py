"""Some of a detector's classes, under the numbers that the data have for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from advkit.data.boxes import LABEL, NO_OBJECT
from advkit.models.detectors.output import CLASS, SCORE, DetectorOutput


@dataclass(frozen=True)
class SubsetOutput:
    """A :class:`~advkit.models.detectors.output.DetectorOutput` of ``classes`` (M,) alone, here 0 to M - 1."""

    whole: DetectorOutput
    classes: Tensor

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """The detector's losses for the objects under its own numbers."""
        return self.whole.losses(self._renumbered(targets))

    def predictions(self) -> Tensor:
        """Those of the classes, moved up; of an image's 100 best those of others are left out."""
        found = self.whole.predictions()
        same = found[..., CLASS, None].long() == self.classes.to(found.device)
        kept = same.any(2)
        found = torch.where(kept[..., None], found, 0.0)
        found[..., CLASS] = torch.where(kept, same.long().max(2).indices.to(found.dtype), NO_OBJECT)
        order = torch.where(kept, found[..., SCORE], -1.0).argsort(dim=1, descending=True, stable=True)
        return found.gather(1, order[..., None].expand_as(found))

    def scores(self) -> Tensor:
        """(N, M)."""
        return self.whole.scores()[:, self.classes]

    def object_scores(self, targets: Tensor) -> Tensor:
        """The detector's, for the objects under its own numbers."""
        return self.whole.object_scores(self._renumbered(targets))

    def background_losses(self) -> Tensor:
        """The detector's."""
        return self.whole.background_losses()

    def detach(self) -> SubsetOutput:
        """The same without a graph."""
        return replace(self, whole=self.whole.detach())

    def _renumbered(self, targets: Tensor) -> Tensor:
        """``targets`` (N, B, 6) with the detector's own numbers of the classes."""
        labels = targets[..., LABEL].long()
        own = self.classes.to(labels.device)[labels.clamp_min(0)].to(targets.dtype)
        changed = targets.clone()
        changed[..., LABEL] = torch.where(labels >= 0, own, NO_OBJECT)
        return changed


class DetectorSubset(nn.Module):
    """The detector ``net`` for ``classes`` alone."""

    classes: Tensor

    def __init__(self, net: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.int64), persistent=False)

    def forward(self, images: Tensor) -> SubsetOutput:
        """The output for ``images`` (N, C, H, W)."""
        return SubsetOutput(self.net(images), self.classes)
