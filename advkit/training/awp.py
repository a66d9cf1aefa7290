"""Adversarial weight perturbation (Wu, Xia and Wang 2020), on top of any adversarial objective.

The gradient of a step is taken at weights that were moved up the loss: each weight tensor w by gamma ||w|| along its
own gradient. Then they go back, to the bit, and the optimiser moves them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from advkit.models.network import Network
from advkit.training import distributed
from advkit.training.adversarial import AdversarialObjective, AdversarialPoints
from advkit.training.objective import Terms, TrainingObjective, TrainingStep, objective_of
from advkit.training.params import TrainParams


@contextlib.contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Whatever passes inside do to buffers (batch-norm's running statistics) is undone."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


class WeightPerturbation(TrainingObjective):
    """The objective that the settings name, at perturbed weights. Biases and batch-norm are left alone."""

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        assert params.adversarial is not None
        self._network, self._size = network, params.adversarial.awp
        inner = replace(params, adversarial=replace(params.adversarial, awp=0.0))
        found = objective_of(network, references, inner, recorded)
        assert isinstance(found, AdversarialObjective)
        self._inner, self._before = found, dict[nn.Parameter, Tensor]()
        self.measures, self.replays = found.measures, found.replays

    def __call__(self, step: TrainingStep) -> Terms:
        """The terms at the perturbed weights, which stay so until :meth:`after_backward`."""
        points = self._inner.points(step)
        self._perturb(step, points)
        terms = self._inner.terms(step, points)
        passes = {"forwards": self._inner.training_passes[0], "backwards": self._inner.training_passes[1]}
        return Terms(terms.losses, terms.measures | {name: terms.measures[name] + n for name, n in passes.items()})

    def _perturb(self, step: TrainingStep, points: AdversarialPoints) -> None:
        weights = [weight for weight in self._network.net.parameters() if weight.ndim > 1 and weight.requires_grad]
        with buffers_kept(self._network):
            losses = self._inner.terms(step, points).losses
            loss = torch.stack(list(losses.values())).sum(0).mean()
            found = torch.autograd.grad(loss, weights, allow_unused=True)
        gradients = {w: g.clone() for w, g in zip(weights, found, strict=True) if g is not None}
        distributed.average(list(gradients.values()))
        self._before = {weight: weight.detach().clone() for weight in gradients}
        with torch.no_grad():
            for weight, gradient in gradients.items():
                length = gradient.norm()
                if float(length) > 0.0:
                    weight.add_(gradient * (self._size * weight.norm() / length))

    def after_backward(self) -> None:
        """The weights as they were."""
        with torch.no_grad():
            for weight, before in self._before.items():
                weight.copy_(before)
        self._before = {}
        self._inner.after_backward()

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """As without."""
        return self._inner.record(sums)

    def state(self) -> dict[str, Tensor]:
        """As without: the perturbation of weights is made anew in every step."""
        return self._inner.state()

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """As without."""
        self._inner.load_state(tensors)
