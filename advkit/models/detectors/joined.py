"""What a detector says of a batch that went through it in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.models.detectors.output import DetectorOutput


@dataclass(frozen=True)
class JoinedOutput:
    """A :class:`~advkit.models.detectors.output.DetectorOutput` of consecutive parts of a batch.

    Attributes:
        parts: outputs of each part.
        sizes: images in each.
    """

    parts: Sequence[DetectorOutput]
    sizes: Sequence[int]

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """See the protocol, as for all methods here."""
        found = [part.losses(own) for part, own in self._split(targets)]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def predictions(self) -> Tensor:
        """(N, 100, 6)."""
        return torch.cat([part.predictions() for part in self.parts])

    def scores(self) -> Tensor:
        """(N, K)."""
        return torch.cat([part.scores() for part in self.parts])

    def object_scores(self, targets: Tensor) -> Tensor:
        """(N,)."""
        return torch.cat([part.object_scores(own) for part, own in self._split(targets)])

    def background_losses(self) -> Tensor:
        """(N,)."""
        return torch.cat([part.background_losses() for part in self.parts])

    def detach(self) -> JoinedOutput:
        """Without a graph."""
        return JoinedOutput([part.detach() for part in self.parts], self.sizes)

    def _split(self, targets: Tensor) -> list[tuple[DetectorOutput, Tensor]]:
        return list(zip(self.parts, torch.split(targets, list(self.sizes)), strict=True))
