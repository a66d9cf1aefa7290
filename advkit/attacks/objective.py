"""What an attack sees of its surrogates: losses, gradients, verdicts, and what they cost."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.admix import Partners
from advkit.attacks.params import AttackParams
from advkit.attacks.resume_folder import WindowState
from advkit.data import canvas
from advkit.files.errors import InputError
from advkit.metrics.norms import flat_norm, per_image
from advkit.models.network import Network
from advkit.models.passes import in_parts
from advkit.tasks.task import Task, task_of


@dataclass
class Batch:
    """Images on their way: ``rows`` are their positions in the batch that the attack was called with.

    ``targets`` (N, ...) are what to move away from, or towards when targeted; ``aims`` (N,) the classes that an attack
    which chooses them itself is on its way to; ``partners`` what they may be mixed with, for methods that do so.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    rows: Tensor
    aims: Tensor | None = None
    partners: Partners | None = None

    def take(self, which: Tensor | slice) -> Batch:
        """The images at ``which`` (positions, a mask or a slice)."""
        aims = None if self.aims is None else self.aims[which]
        partners = None if self.partners is None else self.partners.take(which)
        return Batch(self.images[which], self.targets[which], self.indices[which], self.rows[which], aims, partners)

    def copied(self, aims: Tensor) -> Batch:
        """Each image as often as (N, G) ``aims`` gives it classes to aim at: copies stand next to each other."""
        rows = torch.arange(len(self.rows), device=self.rows.device).repeat_interleave(aims.shape[1])
        return replace(self.take(rows), aims=aims.flatten())

    def others(self, done: Tensor) -> Tensor:
        """(N,) bool: images that have no copy among ``done`` (N,) bool."""
        return ~torch.isin(self.rows, self.rows[done])


def loss_for(task: Task, params: AttackParams) -> str:
    """What an attack makes larger: what it is told, else what its method usually does, else the task's first.

    Raises:
        InputError: a loss that the task has not.
    """
    known = [*task.attack_losses, *task.strongest_of]
    if params.loss is not None and params.loss not in known:
        raise InputError(f"--loss {params.loss}: {task.name} has {', '.join(known)}")
    own = params.method.attack.loss
    return params.loss or (own if own in known else known[0])


def settled(params: AttackParams, networks: Sequence[nn.Module]) -> AttackParams:
    """``params`` for ``networks``: with the loss of their task where the method's own is of another.

    Raises:
        InputError: a loss that the task has not.
    """
    loss = loss_for(task_of(networks), params)
    return params if loss == params.method.attack.loss or not params.method.attack.loss else replace(params, loss=loss)


def may_synchronise(device: torch.device) -> bool:
    """Whether a step may read what it found: a processor has it at once; the host of a GPU would wait for it."""
    return device.type == "cpu"


_STEEPEST = 1e18  # an infinite slope, as a number whose square is one too
View = Callable[[Tensor, Batch], Tensor]  # what networks see of points (N, C, H, W)
BatchLoss = Callable[[Any, Batch], Tensor]  # (N,) larger is better for the attacker, of raw outputs


class Objective:
    """The surrogates and the loss for one batch, counting what it costs.

    Networks look at no more than ``at_once`` images in a pass (and than memory holds), however many are on their way:
    as these leave the batch, passes stay full.

    Attributes:
        precision: of passes whose outcome is judged again.
        forwards, backwards: passes summed over images and networks.
        zero: (N,) bool, images whose loss gave an all-zero or NaN gradient at some step.
        dead: (N,) bool, those for which the task's fallback loss gave none either.
        stages: of an attack that is made of others, how many images each of them fooled.
        window: where such an attack saves how far it came, if anywhere.
        synchronises: see :func:`may_synchronise`.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        params: AttackParams,
        count: int,
        device: torch.device,
        at_once: int | None = None,
    ) -> None:
        self.networks, self.params, self.precision = networks, params, params.precision
        self.at_once = at_once or max(1, count)
        self.task: Task = task_of(networks)
        self.loss = loss_for(self.task, params)
        self.forwards = self.backwards = 0
        self.zero = torch.zeros(count, dtype=torch.bool, device=device)
        self.dead = torch.zeros(count, dtype=torch.bool, device=device)
        self.stages: dict[str, int] = {}
        self.window: WindowState | None = None
        self.synchronises = may_synchronise(device)
        self._unchecked: Tensor | None = None

    def save_stage(self, done: int, name: str, *, found: Tensor, places: Tensor) -> None:
        """``done`` stages of the attack are over, the last called ``name``; what was counted is saved with its results.

        Args:
            done, name: of the stages.
            found: (N, C, H, W) images so far.
            places: of those that are not fooled.
        """
        if self.window is not None:
            counts = {"forwards": self.forwards, "backwards": self.backwards, "stages": self.stages}
            tensors = {"found": found, "places": places, "zero": self.zero, "dead": self.dead}
            self.window.save_stage(name, len(places), tensors, done=done, **counts)

    def load_stage(self) -> tuple[int, Tensor, Tensor] | None:
        """``done``, ``found`` and ``places`` of :meth:`save_stage`, whose counts are taken over; None without."""
        state = None if self.window is None else self.window.stage()
        if state is None:
            return None
        found, places, self.zero, self.dead = (
            state.tensors[name].to(self.zero.device) for name in ("found", "places", "zero", "dead")
        )
        self.forwards, self.backwards = state.values["forwards"], state.values["backwards"]
        self.stages = dict(state.values["stages"])
        return state.values["done"], found, places

    @contextlib.contextmanager
    def using(self, loss: str) -> Iterator[None]:
        """The task's ``loss`` instead of the attack's own, for a part of it."""
        before, self.loss = self.loss, loss
        try:
            yield
        finally:
            self.loss = before

    @contextlib.contextmanager
    def unchecked_gradients(self) -> Iterator[Tensor]:
        """What is zero or NaN becomes zero without another look, so that the host waits for no gradient.

        Yields:
            (N,) bool, the images of the batch that had one so far: their results are not to be used.
        """
        self._unchecked = torch.zeros_like(self.zero)
        try:
            yield self._unchecked
        finally:
            self._unchecked = None

    @contextlib.contextmanager
    def in_float32(self) -> Iterator[None]:
        """No bfloat16, for an attack that lives on small differences of logits."""
        before, self.precision = self.precision, "float32"
        try:
            yield
        finally:
            self.precision = before

    def outputs(self, x: Tensor) -> Any:
        """Raw outputs at ``x`` (N, C, H, W), no gradient."""
        with torch.no_grad(), self._autocast(x):
            parts = in_parts(lambda part: self.task.outputs(self.networks, x[part]), len(x), self.at_once)
        self.forwards += len(x) * len(self.networks)
        return self.task.joined(*parts)

    def blocks(self, places: Tensor, copies: int) -> Iterator[Tensor]:
        """``places`` (N,) in parts so small that ``copies`` of each image take no more room than the whole batch."""
        size = max(1, max(len(self.zero), self.at_once) // copies)
        for start in range(0, len(places), size):
            yield places[start : start + size]

    def losses(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) larger is better for the attacker."""
        return self.task.attack_losses[self.loss](outputs, targets, self.params.targeted)

    def comparable(self, losses: Tensor) -> Tensor:
        """``losses`` without NaN: outputs that are no numbers are what an untargeted attack wants, a targeted never."""
        return losses.nan_to_num(nan=-torch.inf if self.params.targeted else torch.inf)

    def comparable_losses(self, outputs: Any, batch: Batch, loss: BatchLoss) -> Tensor:
        """(N,) of ``loss`` at ``outputs``, without NaN, in the precision of the images."""
        return self.comparable(loss(outputs, batch).to(batch.images.dtype))

    def fooled(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) bool: the attack's aim is reached at ``outputs``, and there is nothing more to gain."""
        if not self.task.stops_early:
            return torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
        return self.task.is_success(self.task.predictions(outputs), targets, self.params.targeted)

    def verdict(self, outputs: Any, x: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Which of ``x`` fool in float32 and as they will be written, their losses, and the images as written.

        Points beyond the budget, which methods of minimal norm pass through, are judged as they are. Where the outputs,
        perhaps of bfloat16 and of pixels between levels, say that an image fools, it is looked at again: near the
        boundary they err.
        """
        hit, losses, written = self.fooled(outputs, batch.targets), self.losses(outputs, batch.targets), x
        if self.params.quantize:
            written = self._rounded(x, batch.images)
        if (self.params.quantize or self.precision != "float32") and bool(hit.any()):
            with self.in_float32():
                again = self.outputs(written[hit])
            sure, sure_losses = self.fooled(again, batch.targets[hit]), self.losses(again, batch.targets[hit])
            hit, losses = hit.clone(), losses.clone()
            losses[hit] = sure_losses.to(losses.dtype)
            hit[hit.clone()] = sure
        return hit, losses, written

    def _rounded(self, x: Tensor, images: Tensor) -> Tensor:
        """``x`` on the levels of 8 bits where it lies in the budget; as it is where it does not, and does not count."""
        eps, norm = self.params.eps, self.params.norm
        inside = flat_norm(canvas.where_pixels(x - images, images), norm) <= eps * (1.0 + 1e-6) + 1e-7
        written = x.clone()
        levels = budget.quantize(x[inside], images[inside], eps, norm)
        written[inside] = budget.from_levels(levels, images[inside]).to(x.dtype)
        return written

    def gradient(
        self, batch: Batch, x: Tensor, view: View | None = None, loss: BatchLoss | None = None
    ) -> tuple[Tensor, Any]:
        """The gradient (N, C, H, W) by ``x`` of ``loss``, or of the attack's own; where zero or NaN, the fallback's.

        Returns:
            the gradient, and the outputs at ``view(x, batch)``, or at ``x`` without one.
        """
        gradient, outputs = self._passes(batch, x, view, loss or self._named(self.loss))
        gradient = gradient.clamp(-_STEEPEST, _STEEPEST)  # NaN stays
        empty = ~(flat_norm(gradient, "linf") > 0)
        if self._unchecked is not None:
            self._unchecked[batch.rows] |= empty
            return torch.where(per_image(empty), 0.0, gradient), outputs
        if bool(empty.any()):
            self.zero[batch.rows[empty]] = True
            part = batch.take(empty)
            again, _ = self._passes(part, x[empty], view, self._named(self.task.fallback))
            self.dead[batch.rows[empty]] |= ~(flat_norm(again, "linf") > 0)
            gradient[empty] = again.nan_to_num(nan=0.0).clamp(-_STEEPEST, _STEEPEST)
        return gradient, outputs

    def _named(self, name: str) -> BatchLoss:
        loss = self.task.attack_losses[name]
        return lambda outputs, batch: loss(outputs, batch.targets, self.params.targeted)

    def _passes(self, batch: Batch, x: Tensor, view: View | None, loss: BatchLoss) -> tuple[Tensor, Any]:
        """A forward and a backward pass of all images, :attr:`at_once` of them together."""

        def run(part: slice) -> tuple[Tensor, Any]:
            whole = part.stop - part.start == len(x)
            return self._pass(batch if whole else batch.take(part), x if whole else x[part], view, loss)

        found, sizes = in_parts(run, len(x), self.at_once)
        if len(found) == 1:
            return found[0]
        outputs = self.task.joined([outputs for _, outputs in found], sizes)
        return torch.cat([gradient for gradient, _ in found]), outputs

    def _pass(self, batch: Batch, x: Tensor, view: View | None, loss: BatchLoss) -> tuple[Tensor, Any]:
        x = x.detach().requires_grad_()
        with torch.enable_grad(), self._autocast(x):
            outputs = self.task.outputs(self.networks, view(x, batch) if view is not None else x)
            losses, method = loss(outputs, batch), self.params.method
            for one in method.hooked("backward"):
                one.function(losses, x, **method.of(one.name))
            gradient = gradient_by(losses, x, self.networks)
        self.forwards += len(x) * len(self.networks)
        self.backwards += len(x) * len(self.networks)
        return gradient, outputs.detach()

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")


def gradient_by(losses: Tensor, x: Tensor, networks: Sequence[nn.Module], *, create_graph: bool = False) -> Tensor:
    """The gradient of the sum of ``losses`` (N,) by ``x``, of the shape of ``x``.

    Raises:
        InputError: a network without gradients, by name.
    """
    if losses.requires_grad:
        found = torch.autograd.grad(losses.sum(), x, create_graph=create_graph, allow_unused=True)[0]
        if found is not None:
            return found
    names = [network.spec.ref for network in networks if isinstance(network, Network)]
    who = " and ".join(names) or "the network"
    raise InputError(f"{who}: gives no gradient by its input, so it can only be a victim (or attacked by square)")
