"""How E is trained in the end, and every candidate but for its length: as R' was, or as ``train`` would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advkit.data.images import ImageSet
from advkit.data.statistics import mean_and_std
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.network import ModelSpec, Network
from advkit.tasks.sampling import hold_out
from advkit.tasks.task import Task
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class Recipe:
    """How R' was trained, or would be.

    Attributes:
        params: training settings; their seed is that of the final trainings.
        validation, limit, data_seed: which of the training images were held out.
        mean, std: normalisation.
        r_prime: R' itself; None when only options describe it.
        fingerprint: of the images that R' was trained on, held-out ones included; None without R'.
    """

    params: TrainParams
    validation: float
    limit: int | None
    data_seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    r_prime: Network | None = None
    fingerprint: str | None = None


@dataclass(frozen=True)
class UsualRecipe:
    """How E is trained where no R' says it.

    Attributes:
        params: training settings for the images; their seed is that of the search.
        validation: part of the images that is held out.
    """

    params: Callable[[ImageSet], TrainParams]
    validation: float


def fill_in(usual: UsualRecipe, task: Task, images: ImageSet, limit: int | None, seed: int) -> Recipe:
    """The recipe for ``images`` of ``task``, a sample of ``limit`` by ``seed``."""
    mean, std = mean_and_std(images, hold_out(task, images, usual.validation, seed)[0])
    return Recipe(usual.params(images), usual.validation, limit, seed, mean, std)


def read_recipe(path: Path, reference: ModelSpec, device: str) -> Recipe:
    """The recipe by which the checkpoint ``path`` was trained.

    Raises:
        InputError: ``train`` did not write it, or it was turned away from another network than ``reference``.
    """
    settings = read_checkpoint(path).meta.get("settings") or {}
    try:
        params = TrainParams.from_json(settings["params"])
        validation, limit = float(settings["params"]["validation"]), settings["params"]["limit"]
        references = list(settings["references"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--recipe-from {path}: says not how it was trained; give a checkpoint that train wrote"
        ) from error
    if params.misalign is None or references != [reference.sha256]:
        raise InputError(
            f"--recipe-from {path}: was not turned away from {reference.ref}; train it with --misalign-from that"
        )
    r_prime = model_reference.load(str(path), device=device)
    _check_start(path, r_prime.spec, params.seed, settings)
    mean, std = tuple(map(float, settings["mean"])), tuple(map(float, settings["std"]))
    return Recipe(params, validation, limit, params.seed, mean, std, r_prime, settings.get("data"))


def started_fresh(spec: ModelSpec, seed: int, settings: dict[str, Any]) -> bool:
    """Whether a training whose checkpoint tells ``settings`` began with the fresh weights of its seed."""
    fresh = build.create(
        spec.architecture,
        num_classes=spec.num_classes,
        input_size=spec.input_size,
        seed=seed,
        model_args=spec.model_args,
    )
    return bool(settings.get("start") == fresh.spec.sha256)


def _check_start(path: Path, spec: ModelSpec, seed: int, settings: dict[str, Any]) -> None:
    """Raise InputError when R' did not begin with the fresh weights of its seed, in one process: E will."""
    if ".py:" not in spec.architecture and not started_fresh(spec, seed, settings):
        raise InputError(f"--recipe-from {path}: did not start from fresh weights; train it without --init")
    if settings.get("processes", 1) != 1:
        raise InputError(
            f"--recipe-from {path}: was trained by {settings['processes']} processes; train it by one, as E is"
        )
