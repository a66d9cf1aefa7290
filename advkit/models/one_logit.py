"""A binary classifier with one logit, as two classes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from advkit.models.network import Network


class OneLogit(nn.Module):
    """``net`` with a 0 before its logit: softmax of the two is sigmoid of the one, and so are all losses on them.

    Attributes:
        net: from (N, C, H, W) to (N, 1), the log-odds of class 1.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """(N, 2) logits."""
        logit: Tensor = self.net(images)
        return torch.cat([torch.zeros_like(logit), logit], 1)


def as_two_classes(network: Network) -> Network:
    """``network``, which has one logit, with two, and a note that says so; a detector of one class as it is."""
    spec = network.spec
    if spec.task == "detection":
        return network
    note = "has one logit, taken as the log-odds of class 1 against class 0 (sigmoid)"
    wrapped = Network(OneLogit(network.net), replace(spec, num_classes=2, labels=(), notes=(*spec.notes, note)))
    return wrapped.to(network.mean.device).train(network.training)
