"""From the options of ``train`` to data, a network to start from and the settings of the run.

Imported late: it needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advkit.attacks.budget import check_eps, parse_eps
from advkit.commands.checks import choices
from advkit.commands.loading import check_task, load_for, model_notes, pick_precision
from advkit.commands.train_config import RecipeOptions, TrainConfig
from advkit.commands.train_start import open_network, try_out
from advkit.data import reference as data_reference
from advkit.data.augment import KINDS
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models.native_size import native_size
from advkit.models.network import Network
from advkit.tasks.sampling import hold_out, limited
from advkit.tasks.task import task_named
from advkit.training.params import PENALTY_POINTS, MisalignParams, TrainParams


@dataclass(frozen=True)
class TrainSetup:
    """Everything opened, each once.

    Attributes:
        images: training images; None when weights are packed without any.
        train, validation: positions in them.
        network: to train.
        references: that it is turned away from.
        params: how to train it.
    """

    images: ImageSet | None
    train: Tensor
    validation: Tensor
    network: Network
    references: list[Network]
    params: TrainParams

    def settings(self, config: TrainConfig, processes: int) -> dict[str, Any]:
        """All that decides the bytes of the checkpoint, as JSON values; file names and reports do not."""
        spec = self.network.spec
        return {
            "params": self.params.to_json() | {"validation": config.validation, "limit": config.limit},
            "architecture": spec.architecture,
            **({"model_args": spec.model_args} if spec.model_args else {}),
            "start": fingerprint(self.network.net.state_dict()),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "data": self.images.fingerprint if self.images is not None else None,
            "references": [reference.spec.sha256 for reference in self.references],
            "processes": processes,
        }

    def notes(self) -> list[str]:
        """What the loading of the weights to start from and of the references had to say."""
        return [note for network in (self.network, *self.references) for note in model_notes(network)]


def open_setup(config: TrainConfig, device: str) -> TrainSetup:
    """From the command's options to everything that a run needs.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    images = _open_images(config)
    if images is not None and config.epochs and images.num_classes < task_named(images.task).least_classes:
        raise InputError(f"{images.ref}: one class, {images.class_names[0]}, and no other; at least two are needed")
    train, validation = torch.empty(2, 0, dtype=torch.int64)
    references = []
    if images is not None:
        train, validation = hold_out(task_named(images.task), images, config.validation, config.seed)
    network = open_network(config, images, train, device)
    if images is not None:
        check_task(network.spec.ref, network, images)
    if images is not None and config.epochs:
        try_out(network, images, train)
    if images is not None:
        references = [load_for(ref, images, device, native=native_size(ref)) for ref in config.misalign_from]
    params = train_params(config, bool(config.misalign_from), images, config.seed, device)
    return TrainSetup(images, train, validation, network, references, params)


def _open_images(config: TrainConfig) -> ImageSet | None:
    if not config.data:
        return None
    images = data_reference.load(
        config.data,
        role="train",
        size=(config.size, config.size) if config.size else None,
        download=config.download,
        fix_boxes=config.fix_boxes,
    )
    return limited(task_named(images.task), images, config.limit, config.seed)


def train_params(
    recipe: RecipeOptions, misaligned: bool, images: ImageSet | None, seed: int, device: str
) -> TrainParams:
    """The settings that the options ask for.

    Args:
        recipe: the options.
        misaligned: whether there is a reference to turn away from.
        images: they decide what ``--augment auto`` is.
        seed: of order, augmentation and dropout.
        device: decides what ``--precision auto`` is.

    Raises:
        InputError: names that don't exist.
    """
    if recipe.augment == "auto":
        large = images is not None and min(images.size[1:]) >= 24
        kinds: tuple[str, ...] = ("crop", "flip") if large and images and images.size[0] == 3 else ()
    else:
        kinds = () if recipe.augment == "none" else choices("augment", recipe.augment, KINDS)
    return TrainParams(
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        optimizer=recipe.optimizer,
        lr=recipe.lr if recipe.lr is not None else {"sgd": 0.1, "adamw": 0.002}[recipe.optimizer],
        weight_decay=recipe.weight_decay,
        momentum=recipe.momentum,
        freeze_bn=recipe.freeze_bn,
        schedule=recipe.schedule,
        label_smoothing=recipe.label_smoothing,
        clip=recipe.clip,
        ema=recipe.ema,
        precise_bn=recipe.precise_bn,
        augment=frozenset(kinds),
        precision=pick_precision(recipe.precision, device),
        seed=seed,
        misalign=_misalign(recipe) if misaligned else None,
    )


def _misalign(recipe: RecipeOptions) -> MisalignParams:
    eps = parse_eps(recipe.misalign_eps, "misalign-eps")
    check_eps(eps, "linf", recipe.misalign_eps, what="misalign-eps")
    return MisalignParams(
        weight=recipe.misalign_weight,
        penalty=recipe.misalign_penalty,
        at=choices("misalign-at", recipe.misalign_at, PENALTY_POINTS),
        eps=eps,
        steps=recipe.misalign_steps,
        smoothness=recipe.smoothness_weight,
        warm_up=recipe.misalign_warm_up,
    )
