"""The optimisers."""

from __future__ import annotations

import torch
from torch import nn

from advkit.models.network import Network
from advkit.training.params import TrainParams


def make_optimizer(network: Network, params: TrainParams, more: nn.Module | None = None) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; biases and batch-norm parameters are not decayed.

    Args:
        network: what is trained.
        params: rates and the rest.
        more: weights that are trained beside it.
    """
    trained = [*network.net.parameters(), *(more.parameters() if more is not None else ())]
    weights = [p for p in trained if p.ndim > 1]
    others = [p for p in trained if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=params.lr)
    return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, nesterov=params.momentum > 0)
