"""Reasons not to trust what an attack says of a network, found on one batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def sanity_checks(network: nn.Module, images: Tensor) -> list[str]:
    """Flags among those below (Carlini et al. 2019; Pintor et al. 2022).

    ``random-forward`` (two passes differ), ``softmax-output`` (rows are probabilities, on which cross-entropy
    gradients vanish), ``not-finite`` and ``train-mode``.

    Args:
        network: as loaded.
        images: (N, C, H, W) float in [0, 1].
    """
    flags = []
    with torch.no_grad():
        one, two = network(images), network(images)
    if any(module.training for module in network.modules()):
        flags.append("train-mode")
    if not bool(torch.isfinite(one).all()):
        flags.append("not-finite")
    if not torch.allclose(one, two, rtol=1e-4, atol=1e-4, equal_nan=True):
        flags.append("random-forward")
    sums = one.sum(1)
    if bool((one >= 0).all() and (one <= 1).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4)):
        flags.append("softmax-output")
    return flags
