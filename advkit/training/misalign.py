"""The misalignment penalty: input gradients of the trained network turned away from a frozen reference's.

The penalty looks at the network as an attacker will: every image by itself, batch-norm a constant affine map. That map
is folded into the convolution before it *as a function of the live parameters*, so that the double back-propagation
meets no batch-norm at all: its second derivative, composed of unfused element-wise kernels, is what makes the obvious
implementation so slow.

The constants are the statistics of the very batch that the training step sees. With running statistics, which lag
behind, the penalty and the cross-entropy would be taken on two different networks: they drift apart, and holding them
together by a second cross-entropy costs far more accuracy than the penalty itself (measured: ResNet-8, 10,000 CIFAR-10
images, 6 epochs: 58 % without penalty, 50 % with running statistics and a second cross-entropy even at weight 0, 56 %
with the batch's own statistics at weight 1).

In bfloat16 the penalty does the same: that ResNet-8, at weight 1 with two seeds, reached 53.6 and 56.9 % and a mean |c|
of 0.024 and 0.028; in float32 53.8 and 56.5 %, 0.024 and 0.027.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks.gradient_similarity import margin_gradients
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data import counter_rng
from advkit.metrics.gradient_similarity import cosines
from advkit.models.network import Network
from advkit.training.fused_view import FusedView
from advkit.training.objective import Terms, TrainingObjective, TrainingStep
from advkit.training.params import MisalignParams, TrainParams
from advkit.training.plain import Plain
from advkit.training.schedule import warm_up

# (indices (N,) int64, epoch) to the directions (N, C, H, W) of the one reference at the images as that epoch sees them.
CachedGradients = Callable[[Tensor, int], Tensor]


@dataclass
class MisalignTerms:
    """What the penalty says of each image of a batch (over places and references averaged), (N,) each.

    Attributes:
        penalty: including the factors (not the warm-up), differentiable.
        cosine, absolute, norm: detached c, |c| and ||g||.
    """

    penalty: Tensor
    cosine: Tensor
    absolute: Tensor
    norm: Tensor


def penalty_of(c: Tensor, penalty: str) -> Tensor:
    """The penalty of cosines ``c``, element by element."""
    if penalty == "signed":
        return c
    return c.abs() if penalty == "abs" else c.square()


@dataclass
class PenaltyPoint:
    """Where gradients are compared.

    Attributes:
        images: (N, C, H, W) points.
        references: whose gradients are compared with there.
        share: of the whole penalty, 1 over all points; equal for every kind of place, however many references it has
            points for, and shared equally by ``references``.
    """

    images: Tensor
    references: list[nn.Module]
    share: float


class Misalignment:
    """The penalty for one network and its frozen references."""

    def __init__(
        self,
        network: Network,
        references: Sequence[nn.Module],
        params: MisalignParams,
        seed: int,
        recorded: CachedGradients | None = None,
        *,
        half: bool = False,
    ) -> None:
        """A penalty of ``network``.

        Args:
            network: the one in training.
            references: frozen, in eval mode.
            params: settings.
            seed: of the noise.
            recorded: directions that are known already.
            half: autocast both networks to bfloat16 where gradients are compared. Cosines are float32.
        """
        self._live, self._half = FusedView(network), half
        self._references, self._params, self._seed, self._recorded = list(references), params, seed, recorded

    def prepare(self) -> None:
        """To be called before the training-mode forward pass of a step."""
        self._live.observe_batch_norm()

    def __call__(self, images: Tensor, targets: Tensor, indices: Tensor, epoch: int) -> MisalignTerms:
        """Penalty of one batch.

        Args:
            images: (N, C, H, W) float32 in [0, 1], as the training step sees them.
            targets: (N, ...) what the task wants of them.
            indices: (N,) int64.
            epoch: keys the noise.
        """
        points = self._points(images, targets, indices, epoch)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._half):
            return self._terms(images, targets, indices, epoch, points)

    def _terms(
        self, images: Tensor, targets: Tensor, indices: Tensor, epoch: int, points: list[PenaltyPoint]
    ) -> MisalignTerms:
        params = self._params
        live = self._live.refuse()
        penalty, *told = (images.new_zeros(len(images)) for _ in range(4))
        for point in points:
            gradient, m = margin_gradients(live, point.images, targets, create_graph=True)
            squared = m.sigmoid().square() * gradient.flatten(1).square().sum(1)
            if params.smoothness:
                penalty = penalty + params.smoothness * point.share * 2.0 * squared
            told[2] = told[2] + point.share * squared.detach().sqrt()
            share = point.share / len(point.references)
            for reference in point.references:
                if point.images is images and self._recorded is not None:
                    other = self._recorded(indices, epoch)
                else:
                    other = margin_gradients(reference, point.images, targets)[0]
                c = cosines(gradient, other)
                penalty = penalty + params.weight * share * penalty_of(c, params.penalty)
                told[0] = told[0] + share * c.detach()
                told[1] = told[1] + share * c.detach().abs()
        return MisalignTerms(penalty, *told)

    def _points(self, images: Tensor, targets: Tensor, indices: Tensor, epoch: int) -> list[PenaltyPoint]:
        """Where gradients are compared, and with which references."""
        params, references, share = self._params, self._references, 1.0 / len(self._params.at)
        found: list[PenaltyPoint] = []
        for place in params.at:
            if place == "clean":
                found.append(PenaltyPoint(images, references, share))
            elif place == "noise":
                stream = counter_rng.stream("misalign noise", epoch)
                drawn = counter_rng.uniform(self._seed, indices, stream, images[0].numel()).view_as(images)
                noisy = (images + (2.0 * drawn - 1.0) * params.eps).clamp(0.0, 1.0)
                found.append(PenaltyPoint(noisy, references, share))
            else:
                seed = counter_rng.stream("misalign pgd", self._seed, epoch)
                pgd = AttackParams(parse_method("pgd"), eps=params.eps, steps=params.steps, seed=seed)
                for reference in references:
                    adversarial = attack([reference], images, targets, indices, pgd).images
                    found.append(PenaltyPoint(adversarial, [reference], share / len(references)))
        return found


class Misaligned(TrainingObjective):
    """The task's loss plus the penalty."""

    measures = ("loss", "correct", "penalty", "cosine", "absolute", "norm")

    def __init__(
        self, network: Network, references: Sequence[Network], params: TrainParams, recorded: CachedGradients | None
    ) -> None:
        assert params.misalign is not None
        half = params.precision == "bfloat16"
        self._plain, self._params = Plain(network, references, params, recorded), params.misalign
        self._penalty = Misalignment(network, references, params.misalign, params.seed, recorded, half=half)

    def __call__(self, step: TrainingStep) -> Terms:
        """Both terms; the penalty is taken on the very network that the training forward pass sees."""
        self._penalty.prepare()
        plain = self._plain(step)
        found = self._penalty(step.images, step.targets, step.indices, step.epoch)
        ramp = warm_up(step.number, self._params.warm_up * step.steps)
        told = {"penalty": found.penalty.detach(), "cosine": found.cosine, "absolute": found.absolute}
        return Terms(plain.losses | {"penalty": ramp * found.penalty}, plain.measures | told | {"norm": found.norm})

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Means of the penalty and of what it is made of."""
        names = {"cosine": "cosine", "absolute_cosine": "absolute", "gradient_norm": "norm", "penalty": "penalty"}
        return {name: sums[measure] / sums["images"] for name, measure in names.items()}
