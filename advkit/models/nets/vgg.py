"""VGG with batch-norm for small images (Simonyan and Zisserman, ICLR 2015; one linear layer, as is usual on CIFAR)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from advkit.models.nets.initialise import kaiming

# Channels of the 3x3 convolutions of each stage; a 2x2 max-pooling ends a stage.
STAGES = {
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}


class VGG(nn.Module):
    """``features`` (convolution, batch-norm, ReLU, ...), the mean over what is left of the map, ``classifier``."""

    def __init__(self, name: str, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in STAGES[name]:
            for channels in stage:
                layers += [nn.Conv2d(in_channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
                in_channels = channels
            # Rounding up keeps a map of one pixel alive, so that images below 32x32 pass too; same for powers of two.
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels, num_classes)
        kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.classifier(self.features(x).mean((2, 3))))
