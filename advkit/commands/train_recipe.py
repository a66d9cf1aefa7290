"""From options to the settings of a training. Imported late: it needs torch."""

from __future__ import annotations

from advkit.attacks.budget import check_eps, parse_eps
from advkit.commands.checks import choices
from advkit.commands.loading import pick_precision
from advkit.commands.train_config import PenaltyOptions, RecipeOptions
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.tasks.task import TASKS, task_named
from advkit.training.params import PENALTY_POINTS, AdversarialParams, MisalignParams, TrainParams


def train_params(
    recipe: RecipeOptions,
    images: ImageSet | None,
    seed: int,
    device: str,
    *,
    misalign: MisalignParams | None = None,
    adversarial: AdversarialParams | None = None,
) -> TrainParams:
    """The settings that the options ask for.

    Args:
        recipe: the options.
        images: they decide what ``--augment auto`` is.
        seed: of order, augmentation and dropout.
        device: decides what ``--precision auto`` is.
        misalign, adversarial: settings of what goes beyond plain training.

    Raises:
        InputError: names that don't exist, or exclude each other.
    """
    if recipe.augment == "auto":
        large = images is not None and min(images.size[1:]) >= 24
        kinds: tuple[str, ...] = ("crop", "flip") if large and images and not images.is_grey else ()
    else:
        kinds = () if recipe.augment == "none" else _augmentations(recipe.augment, images)
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
        misalign=misalign,
        adversarial=adversarial,
    )


def _augmentations(text: str, images: ImageSet | None) -> tuple[str, ...]:
    """Those that the task of ``images`` has, or any task where the images are not known yet."""
    tasks = [images.task] if images is not None else list(TASKS)
    known = dict.fromkeys(name for task in tasks for name in task_named(task).augmentations)
    kinds = choices("augment", text, tuple(known))
    if {"crop", "scale-jitter"} <= set(kinds):
        raise InputError("--augment crop,scale-jitter: scale-jitter is crop with wider windows; give one of them")
    return kinds


def misalign_params(recipe: PenaltyOptions) -> MisalignParams:
    """The settings of the penalty that the options ask for.

    Raises:
        InputError: a radius that bounds nothing, places that don't exist.
    """
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
