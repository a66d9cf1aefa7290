"""What everything above asks of a task, and the tasks by name.

A task turns raw outputs of networks into losses, predictions and correctness, one number for each image, so that
images never influence each other. Nothing above this room asks which task it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.network import ModelSpec
from advkit.tasks.box_marks import BoxMark

FROM_DATA = "from-data"  # the aim that the data name themselves

# (outputs, targets, targeted) to (N,): what an attacker makes larger.
AttackLoss = Callable[[Any, Tensor, bool], Tensor]


class Metric(Protocol):
    """Counts over the images seen so far, on the CPU."""

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Count one batch: raw outputs; predictions do as well where the task has figures."""
        ...

    def merge(self, other: Any) -> None:
        """Count what another one of the same kind has counted, of images that come after those seen so far."""
        ...

    def compute(self) -> Mapping[str, Any]:
        """The counts and what follows from them, by name."""
        ...


class Task(Protocol):
    """One task.

    Attributes:
        name: as checkpoints spell it.
        attack_losses: what an attack may maximise, by name; the first is the default.
        strongest_of: further losses by name: an attack by each of several of them, of which the one counts, image by
            image, that makes the fallback loss largest.
        fallback: the one of them whose gradient never underflows, and which stands for the whole of what is asked.
        least_classes: fewer can't be trained on.
        augmentations: what :meth:`augmented` can do, by name.
        has_places: whether targets lie somewhere in the image, so that who moves it must move them.
        stops_early: whether an attack that reached its aim on an image has nothing to gain from going on.
        figures: what a training tells of its held-out images beside correctness, of what :class:`Metric` computes.
        smooths_labels: whether :meth:`losses` heeds its ``label_smoothing``.
        explained: what :meth:`score` is, in words.
        activation_words: what :meth:`activation` is, in words.
        exclusive: whether rows of :meth:`class_probabilities` are distributions: an image has one class.
        counts_in_training: whether :meth:`losses` tells correctness; elsewhere it takes a decoding of its own.
    """

    name: str
    attack_losses: Mapping[str, AttackLoss]
    strongest_of: Mapping[str, Sequence[str]]
    fallback: str
    least_classes: int
    augmentations: tuple[str, ...]
    has_places: bool
    stops_early: bool
    smooths_labels: bool
    exclusive: bool
    counts_in_training: bool
    figures: tuple[str, ...]
    explained: str
    activation_words: str

    def outputs(self, networks: Sequence[nn.Module], images: Tensor) -> Any:
        """Raw outputs of a network, or of an ensemble as one network, for ``images`` (N, C, H, W) in [0, 1]."""
        ...

    def joined(self, outputs: Sequence[Any], sizes: Sequence[int]) -> Any:
        """The outputs of a batch whose parts, of ``sizes`` images each, gave ``outputs``."""
        ...

    def losses(
        self, network: nn.Module, images: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """What training minimises and how often it is correct: (N,) losses, and (N,) correctness as 0 and 1."""
        ...

    def predictions(self, outputs: Any) -> Tensor:
        """(N, ...) predictions, comparable with ``==`` and with targets; outputs that are not finite predict -1."""
        ...

    def correct(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """(N,) bool: the prediction is what ``targets`` want."""
        ...

    def is_success(self, predictions: Tensor, targets: Tensor, targeted: bool) -> Tensor:
        """(N,) bool: an attack's aim is reached: ``targets`` predicted if targeted, no longer predicted otherwise."""
        ...

    def margin(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) m whose gradient has the direction of the training loss's, free of underflow.

        The loss is softplus(m): sigmoid(m) is its slope.
        """
        ...

    def score(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) how much the outputs speak for ``targets``: what a map of attention explains."""
        ...

    def activation(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) how much the outputs speak for ``targets`` where those are, on a scale that does not level off."""
        ...

    def class_probabilities(self, outputs: Any) -> Tensor:
        """(N, K) in [0, 1]: how much the outputs speak for each class being in the image."""
        ...

    def titles(self, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """What a figure writes beneath each of N images: what is true of it."""
        ...

    def captions(self, predictions: Tensor, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """What a figure writes beneath each of N images: what is predicted of it."""
        ...

    def objects(self, targets: Tensor) -> list[list[BoxMark]]:
        """True boxes to draw in each of N images."""
        ...

    def found(self, predictions: Tensor, targets: Tensor) -> list[list[BoxMark]]:
        """Predicted boxes to draw in each of N images."""
        ...

    def parse_target(self, text: str, class_names: tuple[str, ...]) -> str | int:
        """What ``--target`` says, as :meth:`aim` takes it: the name of a rule, or a number.

        Raises:
            InputError: neither.
        """
        ...

    def aim(
        self,
        rule: str | int,
        targets: Tensor,
        indices: Tensor,
        outputs: Callable[[], Any],
        num_classes: int,
        seed: int,
    ) -> Tensor:
        """(N, ...) what a targeted attack aims at, of the shape of ``targets``; a number needs no ``outputs``.

        Args:
            rule: from :meth:`parse_target`.
            targets: what is true of each image.
            indices: (N,) int64 identities of the images.
            outputs: gives the surrogates' raw outputs on the clean images.
            num_classes: of the data.
            seed: of rules that draw.
        """
        ...

    def output_flags(self, first: Any, second: Any) -> list[str]:
        """Reasons not to trust an attack on a network: what two passes over the same images have to say."""
        ...

    def near_chance(self, correct: int, images: int, num_classes: int) -> bool:
        """Whether ``correct`` of ``images`` is no better than guessing, or hardly."""
        ...

    def augmented(
        self, images: Tensor, targets: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Randomly changed copies of images and the targets that hold for them."""
        ...

    def strata(self, targets: Tensor) -> Tensor:
        """(N,) int64: images of one number are of one kind, for samples that keep proportions."""
        ...

    def columns(self, images: Tensor, targets: Tensor, aims: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        """What an adversarial set says of each image, as named tensors, N rows each: a data set again.

        Args:
            images: (N, C, H, W) as attacked.
            targets, aims: (N, ...) what is true of them, and what was aimed at.
            predictions: (N, ...) of the surrogates.
        """
        ...

    def metric(self, num_classes: int) -> Metric:
        """What ``evaluate`` counts."""
        ...


@runtime_checkable
class Probabilistic(Protocol):
    """What a task whose outputs are probabilities can say beside: objectives that compare predictions ask for it."""

    def losses_of(self, outputs: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
        """:meth:`Task.losses`, of raw outputs that are there already."""
        ...

    def divergence(self, outputs: Any, clean: Any) -> Tensor:
        """(N,) Kullback-Leibler divergence KL(clean || outputs), differentiable by both."""
        ...

    def runner_up_losses(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) -log(1 - p), p the probability of the likeliest of all that is wrong."""
        ...

    def confidence(self, outputs: Any, targets: Tensor) -> Tensor:
        """(N,) probability of ``targets``, in [0, 1]."""
        ...


def probabilistic(task: Task, method: str) -> Probabilistic:
    """``task`` as one whose outputs are probabilities.

    Raises:
        InputError: it is none; says that ``method`` needs one.
    """
    if not isinstance(task, Probabilistic):
        raise InputError(f"--method {method}: models for {task.name} give no probabilities to compare; use pgd")
    return task


# A new task is one file and one line.
TASKS: dict[str, str] = {
    "classification": "advkit.tasks.classification:CLASSIFICATION",
    "detection": "advkit.tasks.detection:DETECTION",
}


def task_named(name: str) -> Task:
    """The task called ``name``, as a checkpoint says it.

    Raises:
        InputError: no such task.
    """
    if name not in TASKS:
        raise InputError(f"task {name[:60]!r}: unknown here; known: {', '.join(TASKS)}")
    module, _, attribute = TASKS[name].partition(":")
    found: Task = getattr(importlib.import_module(module), attribute)
    return found


def task_of(networks: Sequence[nn.Module]) -> Task:
    """The one task of ``networks``: what their specs say, classification for modules that say nothing, and for none.

    Raises:
        InputError: they are for different tasks.
    """
    specs = [getattr(network, "spec", None) for network in networks]
    names = {spec.task if isinstance(spec, ModelSpec) else "classification" for spec in specs}
    if len(names) > 1:
        raise InputError(f"models for {' and for '.join(sorted(names))}: give models of one task")
    return task_named(names.pop() if names else "classification")
