"""Gradients of per-image losses with respect to the images, transformed the way a method asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attacks import transforms
from advkit.attacks.losses import LOSSES, fooled
from advkit.attacks.params import AttackParams
from advkit.metrics.norms import flat_norm, per_image


@dataclass
class Batch:
    """Images on their way: ``rows`` are their positions in the batch that the attack was called with."""

    images: Tensor
    classes: Tensor
    indices: Tensor
    rows: Tensor

    def take(self, which: Tensor) -> Batch:
        """The images at ``which`` (positions or a mask)."""
        return Batch(self.images[which], self.classes[which], self.indices[which], self.rows[which])


def ensemble_logits(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(N, K) mean of the networks' logits (Dong et al. 2018, their strongest ensemble), float32."""
    total: Tensor = networks[0](images)
    for network in networks[1:]:
        total = total + network(images)
    return (total if total.dtype == torch.float64 else total.float()) / len(networks)


class SurrogateGradients:
    """Looks at the surrogates for one batch and keeps count of what it cost.

    Attributes:
        forwards, backwards: passes summed over images and networks.
        zero: (N,) bool, images whose loss gave an all-zero or NaN gradient at some step.
        dead: (N,) bool, those for which the margin loss gave none either.
    """

    def __init__(self, networks: Sequence[nn.Module], params: AttackParams, count: int, device: torch.device) -> None:
        self.networks, self.params = networks, params
        self.forwards = self.backwards = 0
        self.zero = torch.zeros(count, dtype=torch.bool, device=device)
        self.dead = torch.zeros(count, dtype=torch.bool, device=device)

    def logits(self, x: Tensor) -> Tensor:
        """(N, K) logits at ``x``, no gradient."""
        with torch.no_grad(), self._autocast(x):
            logits = ensemble_logits(self.networks, x)
        self.forwards += len(x) * len(self.networks)
        return logits

    def confirmed(self, logits: Tensor, x: Tensor, classes: Tensor) -> Tensor:
        """``logits`` at ``x``; where bfloat16 says that an image is fooled, float32's: near the boundary it errs."""
        seem = fooled(logits, classes, self.params.targeted)
        if self.params.precision == "float32" or not bool(seem.any()):
            return logits
        logits = logits.float().clone()
        with torch.no_grad():
            logits[seem] = ensemble_logits(self.networks, x[seem])
        self.forwards += int(seem.sum()) * len(self.networks)
        return logits

    def direction(self, batch: Batch, x: Tensor, momentum: Tensor, stream: int) -> tuple[Tensor, Tensor | None]:
        """The direction to follow from ``x``, and the logits at ``x`` where the gradient was taken just there.

        Args:
            batch: the clean images and their keys.
            x: (N, C, H, W) current points.
            momentum: the last direction, same shape.
            stream: first random stream of this step.
        """
        params = self.params
        point = x
        if "ni" in params.method:
            # The momentum's mean entry is about 1: a step's length in Linf, but sqrt(C H W) of them in L2.
            ahead = params.step * params.decay / (math.sqrt(x[0].numel()) if params.norm == "l2" else 1.0)
            point = x + ahead * momentum
        gradient, logits = self._averaged(batch, point, stream)
        if "ti" in params.method:
            gradient = transforms.smoothed(gradient, params.ti_kernel or transforms.default_kernel(min(x.shape[-2:])))
        if "mi" in params.method:
            # First by the largest entry: the mean of a tiny gradient would underflow and give NaN.
            gradient = gradient / per_image(flat_norm(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
            mean = gradient.abs().mean(dim=(1, 2, 3)).clamp_min(1e-30)
            gradient = params.decay * momentum + gradient / per_image(mean)
        return gradient, None if params.method.gradient_off_iterate else logits

    def _averaged(self, batch: Batch, point: Tensor, stream: int) -> tuple[Tensor, Tensor]:
        """Mean gradient over the scaled copies of si (one copy without it), and the logits of the first copy."""
        copies = self.params.si_scales if "si" in self.params.method else 1
        gradient, logits = self._rescued(batch, point, 0, stream)
        for copy in range(1, copies):
            gradient = gradient + self._rescued(batch, point, copy, stream)[0]
        return gradient / copies, logits

    def _rescued(self, batch: Batch, point: Tensor, copy: int, stream: int) -> tuple[Tensor, Tensor]:
        """The loss's gradient; where that is zero or NaN, the margin loss's."""
        gradient, logits = self._plain(batch, point, copy, stream, self.params.loss)
        empty = ~(flat_norm(gradient, "linf") > 0)
        if bool(empty.any()):
            self.zero[batch.rows[empty]] = True
            again, _ = self._plain(batch.take(empty), point[empty], copy, stream, "margin")
            self.dead[batch.rows[empty]] |= ~(flat_norm(again, "linf") > 0)
            gradient = gradient.clone()  # it may be expanded, all its pixels one number in memory
            gradient[empty] = again
            gradient = gradient.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        return gradient, logits

    def _plain(self, batch: Batch, point: Tensor, copy: int, stream: int, loss: str) -> tuple[Tensor, Tensor]:
        x = point.detach().requires_grad_()
        with torch.enable_grad(), self._autocast(x):
            logits = ensemble_logits(self.networks, self._view(batch, x, copy, stream + copy))
            losses = LOSSES[loss](logits, batch.classes, self.params.targeted)
            (gradient,) = torch.autograd.grad(losses.sum(), x)
        self.forwards += len(x) * len(self.networks)
        self.backwards += len(x) * len(self.networks)
        return gradient, logits.detach()

    def _view(self, batch: Batch, x: Tensor, copy: int, stream: int) -> Tensor:
        params = self.params
        x = x / 2**copy if copy else x
        if "di" not in params.method:
            return x
        return transforms.input_diversity(
            x,
            batch.indices,
            probability=params.di_probability,
            shrink=params.di_shrink,
            seed=params.seed,
            stream=stream,
        )

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.params.precision == "bfloat16")
