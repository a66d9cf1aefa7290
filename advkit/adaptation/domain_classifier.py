"""Telling source from target: gradient reversal, losses of domain classifiers, and how often they are right.

The source is domain 0, the target domain 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.models.build import seeded

FOCAL_GAMMA = 5.0  # gamma of the focal loss (Saito et al. 2019)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


def reversed_gradient(values: Tensor, factor: float) -> Tensor:
    """``values`` as they are; their gradient times minus ``factor`` (Ganin and Lempitsky 2015)."""
    return cast(Tensor, _Reversal.apply(values, factor))


def reversal_factor(progress: float) -> float:
    """Factor of the reversal over a training, from 0 to 1: 2 / (1 + exp(-10 p)) - 1 (Ganin and Lempitsky 2015)."""
    return 2.0 / (1.0 + math.exp(-10.0 * progress)) - 1.0


def cross_entropy_loss(source: Tensor, target: Tensor) -> Tensor:
    """Scalar: mean of the two domains' mean cross-entropies; logits of any shape, larger for the target."""
    return (F.softplus(source.float()).mean() + F.softplus(-target.float()).mean()) / 2.0


def focal_loss(source: Tensor, target: Tensor, gamma: float = FOCAL_GAMMA) -> Tensor:
    """Scalar: mean of the two domains' mean -(1 - p)^gamma log p, p the probability of the right domain.

    Images that are told apart easily hardly count (Lin et al. 2017; Saito et al. 2019, global alignment).
    """
    losses = [
        ((gamma * F.logsigmoid(-right)).exp() * -F.logsigmoid(right)).mean()
        for right in (-source.float(), target.float())
    ]
    return (losses[0] + losses[1]) / 2.0


def least_squares_loss(source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
    """Scalar: (mean D(source)^2 + mean (1 - D(target))^2) / 2, D the sigmoid (Saito et al. 2019, local alignment).

    Args:
        source, target: logits (n, ...) of the places of each group of images of one size; the mean is over the places
            of an image first, so that images count alike.
    """
    misses = [
        torch.cat([(logits.float().sigmoid() - domain).square().flatten(1).mean(1) for logits in groups]).mean()
        for domain, groups in enumerate((source, target))
    ]
    return (misses[0] + misses[1]) / 2.0


def domain_counts(source: Sequence[Tensor], target: Sequence[Tensor], name: str = "domain") -> dict[str, Tensor]:
    """``NAME_right``: of each image the share of its logits on the right side; ``NAME_images``: ones.

    Args:
        source, target: logits (n, ...) of each group of images.
        name: of the domain classifier.
    """
    shares = [(logits <= 0).float().flatten(1).mean(1) for logits in source]
    shares += [(logits > 0).float().flatten(1).mean(1) for logits in target]
    right = torch.cat(shares).detach()
    return {f"{name}_right": right, f"{name}_images": torch.ones_like(right)}


def domain_accuracy(sums: Mapping[str, float], name: str = "domain") -> dict[str, float]:
    """``NAME_accuracy`` over an epoch, both domains counting alike; 0.5 is chance."""
    return {f"{name}_accuracy": sums[f"{name}_right"] / sums[f"{name}_images"]}


def make_seeded(make: Callable[[], nn.Module], seed: int, like: Tensor) -> nn.Module:
    """What ``make`` makes with weights drawn from ``seed``, on the device of ``like``."""
    return seeded(make, seed).to(like.device).to(memory_format=torch.channels_last)  # 4 axes alone: faster on maps


def reversed_logits(classifier: nn.Module, maps: Sequence[Tensor], factor: float) -> list[Tensor]:
    """Logits of each of ``maps`` (n, C, h, w) behind a gradient reversal; those of one size in one pass, for speed."""
    turned = [reversed_gradient(one, factor) for one in maps]
    if len({one.shape[1:] for one in turned}) > 1:
        return [classifier(one) for one in turned]
    return list(classifier(torch.cat(turned)).split([len(one) for one in turned]))


def perceptron(features: int, hidden: int = 256) -> nn.Module:
    """Two hidden layers, from (N, features) to a logit (N, 1)."""
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)
    )
