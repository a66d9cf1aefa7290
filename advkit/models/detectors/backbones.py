"""What detectors see with: any convolutional network of timm as a pyramid of features, and a small one without it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from advkit.files.errors import InputError

STRIDES = (8, 16, 32)  # of the stages that detectors take


class TimmFeatures(nn.Module):
    """The stages of strides 8, 16 and 32 of a network of timm.

    Attributes:
        body: from (N, C, H, W) to the stages; its weights are called as in the classifier, as far as timm does so.
        channels: of each stage.
    """

    def __init__(self, name: str, in_channels: int) -> None:
        super().__init__()
        import timm

        def make(**more: Any) -> Any:
            return timm.create_model(name, features_only=True, in_chans=in_channels, **more)

        try:
            with torch.device("meta"):
                reductions = list(make().feature_info.reduction())
            indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
            self.body = make(out_indices=indices)
        except Exception as error:
            why = f"{type(error).__name__}: {str(error)[:160]}"
            raise InputError(f"timm/{name}: gives no features of strides 8, 16 and 32: {why}; take another") from error
        self.channels = list(self.body.feature_info.channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features of each stage."""
        return cast("list[Tensor]", self.body(images))


class Pyramid(nn.Module):
    """Features of strides 8 to 128, ``out_channels`` each (Lin et al. 2017)."""

    def __init__(self, name: str, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.features = TimmFeatures(name, in_channels)
        self.out_channels = out_channels
        extra = LastLevelP6P7(out_channels, out_channels)
        self.fpn = FeaturePyramidNetwork(self.features.channels, out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Five levels, finest first."""
        stages = self.features(images)
        return cast("dict[str, Tensor]", self.fpn(OrderedDict((str(k), stage) for k, stage in enumerate(stages))))


class Stages(nn.Module):
    """Features of strides 8 to 128, each of its own number of channels, as SSD takes them (Liu et al. 2016)."""

    def __init__(self, name: str, in_channels: int, extra_channels: int) -> None:
        super().__init__()
        self.features = TimmFeatures(name, in_channels)
        before, extras = self.features.channels[-1], []
        for _ in range(2):
            extras.append(_block(before, extra_channels, stride=2))
            before = extra_channels
        self.extras = nn.ModuleList(extras)
        self.out_channels = [*self.features.channels, extra_channels, extra_channels]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Five levels, finest first."""
        levels = list(self.features(images))
        for extra in self.extras:
            levels.append(extra(levels[-1]))
        return {str(k): level for k, level in enumerate(levels)}


class TinyStages(nn.Module):
    """Features of strides 8, 16, 32 and 64 without batch-norm."""

    out_channels = (96, 128, 128, 128)

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(in_channels, 24, stride=2), _block(24, 48, stride=2), _block(48, 48))
        self.stages = nn.ModuleList()
        before = 48
        for channels in self.out_channels:
            self.stages.append(nn.Sequential(_block(before, channels, stride=2), _block(channels, channels)))
            before = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Four levels, finest first."""
        x, levels = self.stem(images), {}
        for k, stage in enumerate(self.stages):
            x = stage(x)
            levels[str(k)] = x
        return levels


def _block(before: int, channels: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.GroupNorm(8, channels), nn.ReLU(inplace=True))


def load_features(ref: str, detector: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy the ``tensors`` of a classifier into the backbone of ``detector``; its head is left over.

    timm writes some names with underscores for dots once a network is cut into stages.

    Raises:
        InputError: a tensor that is missing or of another shape; a detector without a backbone of timm.
    """
    features = next((module for module in detector.modules() if isinstance(module, TimmFeatures)), None)
    if features is None:
        raise InputError(f"--init {ref}: is a classifier; only advkit/ssd and advkit/fcos start from one")
    found = {name.replace(".", "_"): tensor for name, tensor in tensors.items()}
    state = features.body.state_dict()
    for name, own in state.items():
        tensor = found.get(name.replace(".", "_"))
        if tensor is None or tensor.shape != own.shape:
            why = "is missing" if tensor is None else f"has shape {list(tensor.shape)}, not {list(own.shape)}"
            raise InputError(f"{ref}: tensor {name!r} of the backbone {why}; name the backbone that the weights are of")
        own.copy_(tensor)
