"""The maps of a detector's backbone that domain classifiers look at: a low-level and a high-level one.

Feature pyramids mix late maps into early levels, so what counts is the network below the pyramid where there is one.
The high-level map is not the coarsest: the extra levels of one-stage detectors hold hardly a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter

from advkit.files.errors import InputError
from advkit.models.detectors.backbones import TimmFeatures
from advkit.models.detectors.output import GroupedDetector, full_precision
from advkit.models.detectors.resize import grouped
from advkit.models.modes import evaluating
from advkit.models.network import Network

_RATIO = 4.5  # of the finest map's side to the high-level one's: from stride 8 to 32, with what rounding adds


def detector_of(network: Network) -> GroupedDetector:
    """The detector inside ``network``.

    Raises:
        InputError: it is none with a backbone that is known here.
    """
    if not isinstance(network.net, GroupedDetector):
        raise InputError(
            f"{network.spec.ref}: no detector whose maps are known here; give one of advkit or torchvision"
        )
    return network.net


def body_of(detector: GroupedDetector) -> nn.Module:
    """What gives the maps: the backbone, or what stands before its pyramid or its extra levels."""
    inner = (getattr(detector.backbone, name, None) for name in ("features", "body"))  # advkit's, torchvision's
    return next((one for one in inner if isinstance(one, TimmFeatures | IntermediateLayerGetter)), detector.backbone)


def levels(found: Any) -> list[Tensor]:
    """The maps (n, C, h, w) that a backbone gives, finest first."""
    if isinstance(found, Tensor):
        return [found]
    return list(found.values()) if isinstance(found, Mapping) else list(found)


class MapRecorder:
    """Keeps the maps of training passes of a detector, and makes those of other images.

    Attributes:
        detector: whose maps.
        body: what gives them.
    """

    def __init__(self, network: Network) -> None:
        self._network, self.detector = network, detector_of(network)
        self.body = body_of(self.detector)
        self._found: list[list[Tensor]] = []
        self.body.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: object, output: Any) -> None:
        if module.training:  # attacks look in evaluation mode
            self._found.append([full_precision(level) for level in levels(output)])

    def pop(self) -> list[list[Tensor]]:
        """Maps by group of images of one size, since they were last taken."""
        found, self._found = self._found, []
        return found

    def extract(self, images: Tensor) -> list[list[Tensor]]:
        """The maps of ``images`` (N, C, H, W) in [0, 1], in training mode; heads don't run."""
        network = self._network
        self._found = []
        images = images.contiguous(memory_format=torch.channels_last)  # as the source's are, for speed
        for group in grouped((images - network.mean) / network.std, self.detector.transform):
            self.detector.backbone(group.images)
        return self.pop()


def low_level_map(maps: Sequence[Tensor]) -> Tensor:
    """The finest of one group's maps."""
    return maps[0]


def high_level_map(maps: Sequence[Tensor]) -> Tensor:
    """The coarsest of one group's maps with about a quarter of the finest one's side: of stride 16 or 32."""
    fine = max(maps[0].shape[-2:])
    known = [one for one in maps[1:] if max(one.shape[-2:]) * _RATIO >= fine]
    return known[-1] if known else maps[-1]


def map_channels(network: Network) -> tuple[int, int]:
    """Channels of the low-level and of the high-level map, by a dry run on one image of the detector's size."""
    detector = detector_of(network)
    found: list[Any] = []
    hook = body_of(detector).register_forward_hook(lambda module, inputs, output: found.append(output))
    try:
        with evaluating(network):
            zeros = torch.zeros(1, *network.spec.input_size, device=network.mean.device)
            for group in grouped(zeros, detector.transform):
                detector.backbone(group.images)
    finally:
        hook.remove()
    maps = levels(found[0])
    return low_level_map(maps).shape[1], high_level_map(maps).shape[1]
