"""Training and evaluation mode of modules, put back afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def modes_kept(network: nn.Module) -> Iterator[None]:
    """Afterwards every module of ``network`` is in the mode that it had."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """``network`` in evaluation mode and without gradients; afterwards every module is in the mode that it had."""
    with modes_kept(network), torch.no_grad():
        network.eval()
        yield
