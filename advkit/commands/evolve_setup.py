"""From the options of ``evolve`` to a recipe, a bench and the settings of the run. Imported late: it needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advkit.commands import options
from advkit.commands.train_setup import statistics, train_params
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.data.sampling import hold_out
from advkit.evolution.evaluation_context import ContextSpec
from advkit.evolution.params import SearchParams
from advkit.evolution.run_directory import SPEC
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Genome, from_json, to_json
from advkit.models.genome.limits import Limits, why_invalid
from advkit.models.network import ModelSpec, Network
from advkit.training.params import TrainParams

TRAIN_DEFAULTS: dict[str, Any] = {
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": None,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "schedule": "one-cycle",
    "label_smoothing": 0.0,
    "clip": 1.0,
    "ema": 0.0,
    "augment": "auto",
    "precision": "auto",
    "misalign_penalty": "abs",
    "misalign_at": "clean",
    "misalign_eps": "8/255",
    "misalign_steps": 2,
    "misalign_warm_up": 1.0,
}
VALIDATION = 0.1  # part of the training images held out when no --like says how much


@dataclass(frozen=True)
class Recipe:
    """How R' was trained, or would be: E is trained just so.

    Attributes:
        params: training settings; their seed is that of the final trainings.
        validation, limit, data_seed: which of the training images were held out.
        mean, std: normalisation.
        like: R' itself; None when only options describe it.
    """

    params: TrainParams
    validation: float
    limit: int | None
    data_seed: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    like: Network | None


def recipe(given: dict[str, Any], reference: Network, device: str) -> Recipe:
    """The recipe of ``--like``, or the one that the options make of train's defaults.

    Raises:
        InputError: a ``--like`` that ``train`` did not write, or that was turned away from another reference.
    """
    spec = reference.spec
    if given["like"] is None:
        images = load_images(given, reference, given["limit"], given["seed"])
        asked = {"misalign_from": [spec.ref], **TRAIN_DEFAULTS, **given}
        mean, std = statistics(images, hold_out(images.targets, VALIDATION, given["seed"])[0])
        return Recipe(train_params(asked, images, device), VALIDATION, given["limit"], given["seed"], mean, std, None)
    path = given["like"]
    meta = read_checkpoint(path).meta
    settings = meta.get("settings") or {}
    try:
        params = TrainParams.from_json(settings["params"])
        validation, limit = float(settings["params"]["validation"]), settings["params"]["limit"]
        references = list(settings["references"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"--like {path}: says not how it was trained; give a checkpoint that train wrote") from error
    if params.misalign is None or references != [spec.sha256]:
        raise InputError(f"--like {path}: was not turned away from {spec.ref}; train it with --misalign-from that")
    like = model_reference.load(str(path), device=device)
    _check_start(path, like, params.seed, settings)
    mean, std = tuple(map(float, settings["mean"])), tuple(map(float, settings["std"]))
    return Recipe(params, validation, limit, params.seed, mean, std, like)


def _check_start(path: Path, like: Network, seed: int, settings: dict[str, Any]) -> None:
    """Raise InputError when ``like`` did not begin with the fresh weights of its seed, in one process: E will."""
    spec = like.spec
    if ".py:" not in spec.architecture:
        fresh = build.create(
            spec.architecture,
            num_classes=spec.num_classes,
            input_size=spec.input_size,
            seed=seed,
            model_args=spec.model_args,
        )
        if settings.get("start") != fresh.spec.sha256:
            raise InputError(f"--like {path}: did not start from fresh weights; train it without --init")
    if settings.get("processes", 1) != 1:
        raise InputError(f"--like {path}: was trained by {settings['processes']} processes; train it by one, as E is")


def load_images(given: dict[str, Any], reference: Network, limit: int | None, seed: int) -> ImageSet:
    """The training images, pictures brought to the size that R takes."""
    channels, height, width = reference.spec.input_size
    return data_reference.load(
        given["data"],
        role="train",
        limit=limit,
        seed=seed,
        size=(height, width),
        channels=channels,
        download=given["download"],
    )


def check_like(given: dict[str, Any], found: Recipe, images: ImageSet) -> None:
    """Raise InputError unless R' was trained on just these images."""
    if found.like is None:
        return
    told = read_checkpoint(given["like"]).meta["settings"].get("data")
    if told != images.fingerprint:
        raise InputError(f"--like {given['like']}: was trained on other images than {given['data']}; give its DATA")


def context_spec(given: dict[str, Any], found: Recipe, reference: Network, device: str) -> ContextSpec:
    """What the workers open, but for the files of the run directory."""
    return ContextSpec(
        reference=given["reference"],
        data=given["data"],
        limit=found.limit,
        size=reference.spec.input_size,
        download=given["download"],
        validation=found.validation,
        data_seed=found.data_seed,
        validation_images=given["validation_images"],
        adversarial=(),
        gradients=None,
        images=given["candidate_images"],
        epochs=given["candidate_epochs"],
        recipe=found.params.to_json(),
        mean=found.mean,
        std=found.std,
        device=device,
    )


def search_params(given: dict[str, Any]) -> SearchParams:
    """The settings of the search that the options ask for."""
    for name, usual in (("inherit", False), ("ageing", False), ("population", SearchParams.population)):
        if given["search"] == "random" and given[name] != usual:
            raise InputError(f"--{name}: random search breeds nobody; leave it out")
    params = SearchParams(
        search=options.choice("search", given["search"], ("evolution", "random")),
        objective=options.choice("objective", given["objective"], ("front", "scalar")),
        ageing=given["ageing"],
        budget=given["budget"],
        population=given["population"],
        offspring=given["offspring"],
        rungs=given["rungs"],
        accuracy_floor=given["accuracy_floor"],
        inherit=given["inherit"],
        seed=given["seed"],
        limits=Limits(max_parameters=given["max_parameters"], max_multiply_adds=given["max_multiply_adds"]),
    )
    if params.budget < params.generation_cost:
        raise InputError(
            f"--budget {params.budget}: one generation of {params.offspring} costs {params.generation_cost:.1f} "
            "full-length trainings; raise it or lower --offspring"
        )
    return params


@dataclass(frozen=True)
class BaselineArchitecture:
    """A network made by hand that is trained as the candidates are."""

    name: str
    architecture: str
    model_args: dict[str, Any]


def baselines(given: dict[str, Any], reference: Network) -> tuple[BaselineArchitecture, list[BaselineArchitecture]]:
    """R's own architecture (R' at a candidate's budget), and those of ``--beside``.

    Raises:
        InputError: an architecture that does not exist or fit; a reference from a Python file without a floor.
    """
    spec = reference.spec
    own = BaselineArchitecture("R'", spec.architecture, dict(spec.model_args))
    if ".py:" in spec.architecture and given["accuracy_floor"] is None:
        raise InputError(f"{spec.ref}: its architecture is a Python file; give --accuracy-floor, for it isn't rebuilt")
    others = []
    for ref in given["beside"] or []:
        made = _made("--beside", ref, spec)
        others.append(BaselineArchitecture(ref, made.spec.architecture, dict(made.spec.model_args)))
    names = [one.name for one in others]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--beside {name}: given twice; drop one")
    return own, others


def _made(option: str, ref: str, spec: ModelSpec) -> Network:
    """The architecture ``ref`` for R's images and classes, with fresh weights."""
    try:
        return build.create(ref, num_classes=spec.num_classes, input_size=spec.input_size)
    except InputError as error:
        raise InputError(f"{option} {ref}: {error}") from error


def first_genomes(given: dict[str, Any], reference: Network, limits: Limits) -> list[Genome]:
    """Genomes of ``--begin-with``, with which the first generation begins."""
    spec, found = reference.spec, []
    for ref in given["begin_with"] or []:
        made = _made("--begin-with", ref, spec)
        if made.spec.architecture != "advkit/genome":
            raise InputError(f"--begin-with {ref}: is no genome; write advkit/genome:NAME or advkit/genome:FILE.json")
        genome = from_json(made.spec.model_args["genome"])
        fault = why_invalid(genome, spec.num_classes, spec.input_size, limits)
        if fault is not None:
            raise InputError(f"--begin-with {ref}: has {fault}; raise the limits, or leave it out")
        found.append(genome)
    if len(found) > given["offspring"]:
        raise InputError(
            f"--begin-with: {len(found)} genomes, but a generation of {given['offspring']}; raise --offspring"
        )
    return found


def settings(
    given: dict[str, Any],
    params: SearchParams,
    found: Recipe,
    reference: Network,
    images: ImageSet,
    attacks: list[dict[str, Any]],
    first: list[Genome],
    device: str,
) -> dict[str, Any]:
    """All that decides the records of the run; files, workers, displays and what is made of the records do not."""
    import dataclasses

    import torch

    import advkit

    return {
        "spec": SPEC,
        "versions": {"advkit": advkit.__version__, "torch": torch.__version__},
        "device": device.partition(":")[0],
        "search": dataclasses.asdict(params),
        "recipe": found.params.to_json(),
        "validation": found.validation,
        "validation_images": given["validation_images"],
        "reference": reference.spec.sha256,
        "data": images.fingerprint,
        "data_seed": found.data_seed,
        "mean": list(found.mean),
        "std": list(found.std),
        "attacks": attacks,
        "candidate_images": given["candidate_images"],
        "candidate_epochs": given["candidate_epochs"],
        "like": fingerprint(found.like.net.state_dict()) if found.like is not None else None,
        "begin_with": [to_json(canonical(genome)) for genome in first],
        "threads": given["threads"],
    }


def default_run_dir(out: Path) -> Path:
    """``e.safetensors`` -> ``e.run``."""
    return out.with_suffix(".run")
