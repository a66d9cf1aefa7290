"""What a network says of finished images: float32, the network as loaded, no gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.attacks.gradient import ensemble_logits


def logits(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(N, K) float32 (mean) logits of ``images`` (N, C, H, W) in [0, 1]."""
    with torch.inference_mode():  # channels-last: convolutions take 0.85 of the time, the rest doesn't mind
        images = images.float().contiguous(memory_format=torch.channels_last)
        return ensemble_logits(networks, images).clone()


def predictions(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(N,) int64 predicted classes; -1 where a logit is NaN or infinite, which is never right."""
    found = logits(networks, images)
    return torch.where(torch.isfinite(found).all(1), found.argmax(1), -1)


def suspicions(network: nn.Module, images: Tensor) -> list[str]:
    """Reasons not to trust results on ``network``, found on one batch (Carlini et al. 2019; Pintor et al. 2022).

    Returns flags among ``random-forward`` (two passes differ), ``softmax-output`` (rows are probabilities, on which
    cross-entropy gradients vanish), ``not-finite`` and ``train-mode``.
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
