"""One run of ``evolve``: what is opened and checked before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.evolution import architectures, compared_runs, final_selection, search
from advkit.evolution.architectures import BaselineArchitecture
from advkit.evolution.compared_runs import ComparedRun
from advkit.evolution.evaluation_context import ContextSpec, DataParts, load_training_images, split_parts
from advkit.evolution.params import SearchParams, SearchRequest
from advkit.evolution.recipe import Recipe, UsualRecipe, fill_in, read_recipe
from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.search import Record
from advkit.evolution.seen_images import count_seen
from advkit.evolution.settings import run_settings
from advkit.files.checkpoint import canonical_json
from advkit.files.errors import InputError
from advkit.models import reference as model_reference
from advkit.models.genome.genes import Genome
from advkit.models.network import Network
from advkit.tasks.task import task_of

Attacks = Sequence[tuple[AttackParams, dict[str, Any]]]  # and the same as JSON values


@dataclass
class SearchRun:
    """Everything about one run, filled in as it goes on.

    Attributes:
        request: what was asked.
        recipe, reference, parts: of the final trainings, R, and the data; each opened once.
        attacks: on R.
        settings: all that decides the records.
        spec: how workers open what candidates share.
        first, own, others: given genomes, R's architecture, baselines.
        runs: other runs that this one is compared with.
        seen: how many of the validation images R was trained on; None when that cannot be told.
        directory: open while the run goes on.
        r_prime: R' on the validation images.
        floors: accuracy floor of each rung.
        baselines: names to records, full length.
        result: of the search.
        finals: records of the finalists.
        choice: which of them is E.
    """

    request: SearchRequest
    recipe: Recipe
    reference: Network
    parts: DataParts
    attacks: Attacks
    settings: dict[str, Any]
    spec: ContextSpec
    first: list[Genome]
    own: BaselineArchitecture
    others: list[BaselineArchitecture]
    runs: list[ComparedRun]
    seen: int | None
    directory: RunDirectory | None = None
    r_prime: Record | None = None
    floors: list[float | None] = field(default_factory=list)
    baselines: dict[str, Record] = field(default_factory=dict)
    result: search.Result = field(default_factory=search.Result)
    finals: list[Record] = field(default_factory=list)
    choice: final_selection.Choice | None = None

    @property
    def params(self) -> SearchParams:
        """Settings of the search."""
        return self.request.search

    @property
    def images(self) -> ImageSet:
        """All images of the data."""
        return self.parts.data

    @property
    def run_id(self) -> str:
        """Hash of the settings: marks what this run wrote."""
        return hashlib.sha256(canonical_json(self.settings).encode()).hexdigest()


def prepare(request: SearchRequest, usual: UsualRecipe, attacks_by_seed: Callable[[int], Attacks]) -> SearchRun:
    """Open and check everything; nothing is written yet.

    Args:
        request: what is asked.
        usual: the recipe where no R' says it.
        attacks_by_seed: the attacks on R by the seed of the images: searches of several seeds see the same examples.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    _check_search(request.search)
    reference = model_reference.load(request.reference, device=request.device)
    told = read_recipe(request.recipe_from, reference.spec, request.device) if request.recipe_from else None
    limit, seed = (told.limit, told.data_seed) if told is not None else (request.limit, request.search.seed)
    task, size = task_of([reference]), reference.spec.input_size
    images = load_training_images(
        request.data, task, size, limit=limit, seed=seed, download=request.download, fix_boxes=request.fix_boxes
    )
    _check_images(request, reference, images)
    if told is not None and told.fingerprint != images.fingerprint:
        raise InputError(
            f"--recipe-from {request.recipe_from}: was trained on other images than {request.data}; give its DATA"
        )
    recipe = told if told is not None else fill_in(usual, task, images, limit, seed)
    parts = split_parts(task, images, recipe.validation, request.validation_images, seed)
    request = _fit_images(request, recipe, parts)
    own = architectures.own_architecture(reference.spec, request.search.accuracy_floor)
    others = architectures.baselines(request.baselines, reference.spec)
    first = architectures.first_genomes(request.begin_with, reference.spec, request.search)
    attacks = attacks_by_seed(seed)
    settings = run_settings(request, recipe, reference.spec, images, [values for _, values in attacks], first)
    runs = [compared_runs.read(path, settings) for path in request.compare_runs]
    seen = count_seen(request, reference, recipe, parts)
    spec = _context_spec(request, recipe, reference)
    return SearchRun(request, recipe, reference, parts, attacks, settings, spec, first, own, others, runs, seen)


def _check_search(params: SearchParams) -> None:
    if params.budget < params.generation_cost:
        raise InputError(
            f"--budget {params.budget}: one generation of {params.offspring} costs {params.generation_cost:.1f} "
            "full-length trainings; raise it or lower --offspring"
        )


def _check_images(request: SearchRequest, reference: Network, images: ImageSet) -> None:
    spec = reference.spec
    if spec.num_classes != images.num_classes or spec.input_size != images.size:
        size, wanted = ("x".join(map(str, s)) for s in (images.size, spec.input_size))
        raise InputError(
            f"{request.reference}: takes {wanted} images of {spec.num_classes} classes, {request.data} has "
            f"{size} of {images.num_classes}; use data that it was made for"
        )
    if images.split.partition(":")[0] == "test":
        raise InputError(f"{request.data}: are test images, which evolve would choose on; give the training split")


def _fit_images(request: SearchRequest, recipe: Recipe, parts: DataParts) -> SearchRequest:
    """The request with no more candidate images than there are: rungs are parts of these."""
    if len(parts.validation) == 0 and not recipe.validation:
        raise InputError(
            f"--recipe-from {request.recipe_from}: was trained with --validation 0; train it with a part held out"
        )
    if len(parts.validation) == 0:
        raise InputError(f"{request.data}: no image is held out to choose on; give more images")
    length = min(request.candidate_images, len(parts.train))
    few = request.search.length(length, 0)
    if few < recipe.params.batch_size:
        raise InputError(
            f"--candidate-images {length}: the first rung has {few} images, less than a batch of "
            f"{recipe.params.batch_size}; raise it or lower --rungs"
        )
    return replace(request, candidate_images=length)


def _context_spec(request: SearchRequest, recipe: Recipe, reference: Network) -> ContextSpec:
    """What the workers open, but for the files of the run directory."""
    return ContextSpec(
        reference=request.reference,
        task=reference.spec.task,
        data=request.data,
        limit=recipe.limit,
        size=reference.spec.input_size,
        download=request.download,
        fix_boxes=request.fix_boxes,
        validation=recipe.validation,
        data_seed=recipe.data_seed,
        validation_images=request.validation_images,
        adversarial=(),
        gradients=None,
        images=request.candidate_images,
        epochs=request.candidate_epochs,
        recipe=recipe.params.to_json(),
        mean=recipe.mean,
        std=recipe.std,
        device=request.device,
    )
