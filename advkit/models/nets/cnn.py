"""A plain convolutional network: no shortcuts, nothing but convolutions one after the other."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from advkit.models.nets.initialise import kaiming

CHANNELS = (32, 64, 128)


class CNN(nn.Module):
    """Three pairs of 3x3 convolutions with batch-norm and ReLU; max-pooling halves the map between the pairs.

    Two poolings, not three: 8x8 digits keep a 2x2 map for the classifier to look at.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels in CHANNELS:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for before in (in_channels, channels):
                layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()]
            in_channels = channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.features(x).mean((2, 3))))
