"""Small detectors, and what their tests adapt them by."""

from __future__ import annotations

from typing import Any

from advkit.adaptation.method import MethodContext
from advkit.adaptation.params import AdaptationParams
from advkit.data.images import ImageSet
from advkit.models.build import create
from advkit.models.network import Network
from advkit.training.objective import TrainingStep
from advkit.training.params import TrainParams

PARAMS = TrainParams(epochs=1, batch_size=2, optimizer="adamw", lr=0.001, schedule="constant")


def detector(seed: int = 0, side: int = 96) -> Network:
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return create("advkit/tiny-ssd", num_classes=6, input_size=(3, side, side), seed=seed, **statistics)


def with_batch_norm(side: int = 64) -> Network:
    backbone = {"backbone": "timm/resnet10t"}
    return create(
        "advkit/ssd", num_classes=6, input_size=(3, side, side), model_args=backbone, mean=(0.5,) * 3, std=(0.5,) * 3
    )


def context_of(network: Network, target: ImageSet, params: TrainParams = PARAMS, **settings: Any) -> MethodContext:
    return MethodContext(network, target, AdaptationParams(**settings), params)


def a_step(images: ImageSet) -> TrainingStep:
    pixels, targets = images.batch(slice(0, 2))
    return TrainingStep(pixels, targets, images.indices[:2], 0, 0, 2)
