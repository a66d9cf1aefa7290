"""A network from pixels to raw outputs: the net, its normalisation, and what is known about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from advkit.models.config import Crop


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, apart from its weights.

    Attributes:
        ref: the MODEL reference as the user wrote it.
        sha256: identity of the weights it was loaded or made with (:func:`advkit.files.tensors.fingerprint`).
        architecture: ``advkit/NAME``, ``timm/NAME``, ``torchvision/NAME`` or ``FILE.py:FACTORY``.
        num_classes: how many classes.
        input_size: (C, H, W) of the images; for detectors, to which they scale images inside.
        mean: per channel, in pixels of [0, 1].
        std: per channel, in pixels of [0, 1].
        labels: the classes' names, in the order of the logits; empty when unknown.
        model_args: keyword arguments of the architecture beyond classes and size.
        task: what it is for (:data:`advkit.tasks.task.TASKS`).
        crop: how pictures of other sizes are prepared for it; None where it doesn't say.
        notes: what the user must hear of how it was loaded, each one line, a flag in the reports.
    """

    ref: str
    sha256: str
    architecture: str
    num_classes: int
    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    model_args: dict[str, Any] = field(default_factory=dict)
    task: str = "classification"
    crop: Crop | None = None
    notes: tuple[str, ...] = ()


class Network(nn.Module):
    """``net`` behind its normalisation.

    Attributes:
        net: from normalised images to logits, or a detector's output; its state dict is what a checkpoint holds.
        mean: (1, C, 1, 1), not part of the state dict: it belongs to ``spec``.
        std: (1, C, 1, 1), likewise.
        spec: what the model is.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net
        self.spec = spec
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Any:
        """(N, K) logits of ``images`` (N, C, H, W), float in [0, 1].

        Of a detector, an :class:`advkit.models.detectors.output.DetectorOutput`; images may end in NaN.
        """
        return self.net((images - self.mean) / self.std)
