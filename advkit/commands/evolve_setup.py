"""From the options of ``evolve`` to a recipe, a bench and the settings of the run. Imported late: it needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advkit.commands import options
from advkit.commands.train_setup import train_params
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.evolution.bench import BenchSpec
from advkit.evolution.params import SearchParams
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Genome, from_json, to_json
from advkit.models.genome.limits import Limits
from advkit.models.network import Network
from advkit.training.params import TrainParams

_TRAIN_DEFAULTS: dict[str, Any] = {
    "batch_size": 128,
    "optimizer": "sgd",
    "lr": None,
    "weight_decay": 5e-4,
    "momentum": 0.9,
    "schedule": "one-cycle",
    "label_smoothing": 0.0,
    "clip": None,
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
        images = data_reference.load(
            given["data"], role="train", limit=given["limit"], seed=given["seed"], download=given["download"]
        )
        asked = {"misalign_from": [spec.ref], **_TRAIN_DEFAULTS, **given}
        return Recipe(
            train_params(asked, images, device), VALIDATION, given["limit"], given["seed"], spec.mean, spec.std, None
        )
    path = given["like"]
    meta = read_checkpoint(path).meta
    settings = meta.get("settings") or {}
    try:
        params = TrainParams.from_json(settings["params"])
        validation, limit = float(settings["params"]["validation"]), settings["params"]["limit"]
        references = list(settings["references"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"--like {path}: says not how it was trained; give a checkpoint that train wrote") from error
    if params.misalign is not None and references != [spec.sha256]:
        raise InputError(f"--like {path}: was turned away from another network than {spec.ref}; train it against that")
    like = model_reference.load(str(path), device=device)
    mean, std = tuple(map(float, settings["mean"])), tuple(map(float, settings["std"]))
    return Recipe(params, validation, limit, params.seed, mean, std, like)


def check_like(given: dict[str, Any], found: Recipe, images: ImageSet) -> None:
    """Raise InputError unless R' was trained on just these images."""
    if found.like is None:
        return
    told = read_checkpoint(given["like"]).meta["settings"].get("data")
    if told != images.fingerprint:
        raise InputError(f"--like {given['like']}: was trained on other images than {given['data']}; give its DATA")


def bench_spec(given: dict[str, Any], found: Recipe, device: str) -> BenchSpec:
    """What the workers open, but for the files of the run directory."""
    return BenchSpec(
        reference=given["reference"],
        data=given["data"],
        limit=found.limit,
        size=given["size"],
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
class Baseline:
    """A network made by hand that is trained as the candidates are."""

    name: str
    architecture: str
    model_args: dict[str, Any]


def baselines(given: dict[str, Any], reference: Network) -> tuple[Baseline, list[Baseline]]:
    """R's own architecture (R' at a candidate's budget), and those of ``--beside``.

    Raises:
        InputError: an architecture that does not exist or fit; a reference from a Python file without a floor.
    """
    spec = reference.spec
    own = Baseline("R'", spec.architecture, dict(spec.model_args))
    if ".py:" in spec.architecture and given["accuracy_floor"] is None:
        raise InputError(f"{spec.ref}: its architecture is a Python file; give --accuracy-floor, for it isn't rebuilt")
    others = []
    for ref in given["beside"] or []:
        made = build.create(ref, num_classes=spec.num_classes, input_size=spec.input_size)
        others.append(Baseline(ref, made.spec.architecture, dict(made.spec.model_args)))
    names = [one.name for one in others]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--beside {name}: given twice; drop one")
    return own, others


def first_genomes(given: dict[str, Any], reference: Network) -> list[Genome]:
    """Genomes of ``--begin-with``, with which the first generation begins."""
    spec, found = reference.spec, []
    for ref in given["begin_with"] or []:
        made = build.create(ref, num_classes=spec.num_classes, input_size=spec.input_size)
        if made.spec.architecture != "advkit/genome":
            raise InputError(f"--begin-with {ref}: is no genome; write advkit/genome:NAME or advkit/genome:FILE.json")
        found.append(from_json(made.spec.model_args["genome"]))
    return found


def settings(
    given: dict[str, Any],
    params: SearchParams,
    found: Recipe,
    reference: Network,
    images: ImageSet,
    attacks: list[dict[str, Any]],
    first: list[Genome],
    others: list[Baseline],
) -> dict[str, Any]:
    """All that decides the result of the run; files, workers and displays do not."""
    import dataclasses

    return {
        "spec": "advkit/evolution/1",
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
        "finalists": given["finalists"],
        "like": fingerprint(found.like.net.state_dict()) if found.like is not None else None,
        "begin_with": [to_json(canonical(genome)) for genome in first],
        "beside": [[one.name, one.architecture, one.model_args] for one in others],
        "threads": given["threads"],
    }


def default_run_dir(out: Path) -> Path:
    """``e.safetensors`` -> ``e.run``."""
    return out.with_suffix(".run")
