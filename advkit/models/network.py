"""A network with its normalisation inside, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelSpec:
    """What a network is.

    Attributes:
        ref: the reference it was loaded from.
        sha256: identity of its weights (see :func:`advkit.files.tensors.fingerprint`); empty before training.
        architecture: ``advkit/NAME``, ``timm/NAME``, ``torchvision/NAME`` or ``FILE.py:FACTORY``.
        model_args: further arguments of the factory.
        num_classes: K.
        labels: K class names, or none.
        input_size: (C, H, W); None where bare weights do not say and any size runs.
        mean, std: C numbers each, in pixel units of [0, 1].
    """

    ref: str
    sha256: str
    architecture: str
    num_classes: int
    input_size: tuple[int, int, int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    model_args: dict[str, Any] = field(default_factory=dict)


class Network(nn.Module):
    """``net`` behind its normalisation: images (N, C, H, W) in [0, 1] to logits (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of ``images``."""
        return cast(Tensor, self.net((images - self.mean) / self.std))
