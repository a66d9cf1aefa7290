"""One attack on one batch, by whatever method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.admix import Partners
from advkit.attacks.methods import Method
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.resume_folder import SavedState, WindowState
from advkit.attacks.sgm import has_branches
from advkit.files.errors import InputError
from advkit.models.network import Network
from advkit.tasks.task import Task, task_of


@dataclass
class AttackBatch:
    """Result for one batch.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1], inside the budget around the clean ones.
        forwards, backwards: passes summed over images and surrogates.
        zero_gradients: (N,) bool, the loss gave an all-zero or NaN gradient at some step and the task's fallback loss
            took over.
        dead: (N,) bool, no loss gave a gradient at some step.
        stages: of an attack that is made of others, how many images each of them fooled, of those that were
            right and that the ones before it had left.
    """

    images: Tensor
    forwards: int
    backwards: int
    zero_gradients: Tensor
    dead: Tensor
    stages: dict[str, int] = field(default_factory=dict)

    def to_state(self, seconds: float) -> SavedState:
        """The same, with the time that it took, for :meth:`from_state`."""
        tensors = {"images": self.images, "zero": self.zero_gradients, "dead": self.dead}
        counts = {"forwards": self.forwards, "backwards": self.backwards, "stages": self.stages}
        return SavedState({name: one.cpu() for name, one in tensors.items()}, {**counts, "seconds": seconds})

    @classmethod
    def from_state(cls, state: SavedState) -> AttackBatch:
        """What :meth:`to_state` made, on the CPU."""
        tensors, values = state.tensors, state.values
        counts = values["forwards"], values["backwards"]
        return cls(tensors["images"], *counts, tensors["zero"], tensors["dead"], dict(values["stages"]))


def attack(
    networks: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    indices: Tensor,
    params: AttackParams,
    *,
    at_once: int | None = None,
    partners: Partners | None = None,
    window: WindowState | None = None,
) -> AttackBatch:
    """Adversarial images for one batch.

    Args:
        networks: surrogates in eval mode, frozen, from images in [0, 1] to raw outputs; several make an ensemble.
        images: (N, C, H, W) float32 in [0, 1].
        targets: (N, ...) what the task wants of each image when untargeted, what the attacker wants when targeted.
        indices: (N,) int64: identities of the images in their data set; they key the randomness.
        params: the attack.
        at_once: how many images go through the networks together; by default all.
        partners: what the images may be mixed with; admix needs them.
        window: where an attack of several stages saves how far it came, and from where it goes on.

    Raises:
        InputError: surrogates of different tasks, without gradients or residual branches where the method needs them,
            or of a task that the method is not for; 8-bit results asked for where no level lies in reach.
    """
    check_method(task_of(networks), params.method)
    if params.targeted and params.method.attack.chooses_targets:
        raise InputError(f"--target: {params.method.attack.name} chooses its targets itself; use apgd-ce or pgd")
    if params.method.hooked("mix") and partners is None:
        raise ValueError(f"{params.method.name}: nothing to mix in; see advkit.attacks.dataset.pool_for")
    objective = Objective(networks, params, len(images), images.device, at_once)
    if several := objective.task.strongest_of.get(objective.loss):
        made = [
            attack(networks, images, targets, indices, replace(params, loss=loss), at_once=at_once) for loss in several
        ]
        return _strongest(made, objective, targets)
    method, objective.window = params.method, window
    if params.eps == 0.0:
        found = images.clone()
    else:
        batch = Batch(images, targets, indices, torch.arange(len(images), device=images.device), partners=partners)
        _check_branches(networks, batch.take(slice(1)), params)
        found = method.attack.function(objective, batch, params, **method.of(method.attack.name))
    if params.quantize and len(images):
        found = budget.from_levels(budget.quantize(found, images, params.eps, params.norm), images)
    return AttackBatch(found, objective.forwards, objective.backwards, objective.zero, objective.dead, objective.stages)


def _check_branches(networks: Sequence[nn.Module], first: Batch, params: AttackParams) -> None:
    """Raise InputError for a surrogate without the residual branches that sgm lives on, by a pass of one image."""
    if "sgm" not in params.method or not len(first.rows):
        return
    for network in networks:
        alone, x = Objective([network], params, 1, first.images.device), first.images.detach().clone().requires_grad_()
        with torch.enable_grad():
            losses = alone.losses(alone.task.outputs([network], x), first.targets)
        if not has_branches(losses, x):
            who = network.spec.ref if isinstance(network, Network) else "the network"
            raise InputError(
                f"sgm: {who} has no residual branches; attack a residual network (a ResNet), or leave it out"
            )


def _strongest(made: Sequence[AttackBatch], objective: Objective, targets: Tensor) -> AttackBatch:
    """Of several attacks on the same images, for each image the one with the largest whole loss."""
    aimed = objective.params.targeted
    whole = objective.task.attack_losses[objective.task.fallback]
    losses = torch.stack([whole(objective.outputs(one.images), targets, aimed) for one in made])
    return AttackBatch(
        strongest([one.images for one in made], losses),
        objective.forwards + sum(one.forwards for one in made),
        sum(one.backwards for one in made),
        torch.stack([one.zero_gradients for one in made]).any(0),
        torch.stack([one.dead for one in made]).any(0),
    )


def strongest(made: Sequence[Tensor], losses: Tensor) -> Tensor:
    """(N, C, H, W): of several images (N, C, H, W) each, for every one the first of the largest ``losses`` (M, N)."""
    chosen = losses.max(0).indices
    return torch.stack(list(made))[chosen, torch.arange(len(chosen), device=chosen.device)]


def check_method(task: Task, method: Method) -> None:
    """Raise InputError for a method that needs what ``task`` has not.

    Methods of minimal norm and of random search go by whether an image is fooled; input diversity moves the image and
    would have to move what is asked of its places.
    """
    attack = method.attack
    if not task.stops_early and (attack.minimal_norm or not attack.gradients):
        raise InputError(f"{attack.name}: goes by whether an image is fooled, which {task.name} does not say; use pgd")
    if attack.logits and not task.exclusive:
        raise InputError(f"{attack.name}: needs classes of which an image has one, not {task.name}; use pgd")
    if task.has_places and "admix" in method:
        raise InputError(f"admix: mixes in images of another class, and {task.name} has several in one; leave it out")
    for name in ("di", "bsr"):
        if task.has_places and name in method:
            raise InputError(f"{name}: moves images, but not the boxes of {task.name}; leave it out")
    if task.has_places and "ssa" in method:
        raise InputError(f"ssa: needs images of one size, which those of {task.name} have not; leave it out")
