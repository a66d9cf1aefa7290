"""Strong-weak alignment of a detector's domains (Saito et al. 2019): local and global together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from advkit.adaptation.global_alignment import GlobalAlignment
from advkit.adaptation.local_alignment import LocalAlignment
from advkit.adaptation.method import AdaptationLoss, MapMethod, MethodContext


class LocalGlobal(MapMethod):
    """Both losses on the same maps; each domain classifier starts as it does by itself."""

    measures = (*LocalAlignment.measures, *GlobalAlignment.measures)

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._local, self._global = LocalAlignment(context), GlobalAlignment(context)
        self.trained = nn.ModuleDict({"local": self._local.classifier, "global": self._global.classifier})

    def adaptation_loss(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> AdaptationLoss:
        """The sum of both losses."""
        both = [self._local.adaptation_loss(source, target), self._global.adaptation_loss(source, target)]
        return AdaptationLoss(both[0].loss + both[1].loss, {**both[0].counts, **both[1].counts})

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The accuracy of both domain classifiers."""
        return self._local.record(sums) | self._global.record(sums)
