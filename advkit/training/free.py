"""Free adversarial training (Shafahi et al. 2019): one backward pass moves the weights and the perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advkit.models.network import Network
from advkit.parallel import process_group
from advkit.training.adversarial import AdversarialObjective, AdversarialPoints
from advkit.training.objective import TrainingStep
from advkit.training.params import TrainParams


class FreeTraining(AdversarialObjective):
    """Each batch is replayed; the perturbation goes on from replay to replay, and from one batch to the next.

    A place in the batch has a perturbation, not an image: the next batch begins with that of the images before it. The
    gradient is the training pass's own, so it is that of the network in training mode.
    """

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        super().__init__(network, references, params, recorded)
        self.replays = self.settings.replays
        self._perturbation: Tensor | None = None
        self._leaf: Tensor | None = None

    def attack(self, step: TrainingStep) -> Tensor:
        """Never called: there is no attack apart from the training pass."""
        raise AssertionError("free training attacks in its training pass")

    def points(self, step: TrainingStep) -> AdversarialPoints:
        """The images moved by the perturbations of their places, differentiable by these."""
        if self._perturbation is None:
            self._perturbation = torch.zeros_like(step.images)
        chosen = self.chosen(step)
        self._leaf = self._perturbation.detach().to(step.images.device).requires_grad_()
        moved = (step.images + self._leaf * chosen.view(-1, 1, 1, 1)).clamp(0.0, 1.0)
        return AdversarialPoints(moved, chosen)

    def after_backward(self) -> None:
        """One step of ``step_size`` along the sign of the gradient, inside the ball."""
        assert self._leaf is not None
        if self._leaf.grad is not None:
            moved = self._leaf.detach() + self.settings.step_size * self._leaf.grad.sign()
            self._perturbation = moved.clamp(-self.settings.eps, self.settings.eps)
        self._leaf = None

    def state(self) -> dict[str, Tensor]:
        """The perturbations of all places of the global batch."""
        if self._perturbation is None:
            return {}
        own, world = self._perturbation.detach().cpu(), process_group.world_size()
        whole = own.new_zeros(len(own) * world, *own.shape[1:])
        whole[process_group.rank() :: world] = own
        return {"perturbation": process_group.sum_over_ranks(whole)}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """This rank's share of the perturbations.

        Raises:
            ValueError: none, or not one for each image of a batch.
        """
        whole = tensors.get("perturbation")
        if whole is None or len(whole) != self.params.batch_size:
            raise ValueError("no perturbation for each image of a batch")
        self._perturbation = whole[process_group.rank() :: process_group.world_size()].clone()
