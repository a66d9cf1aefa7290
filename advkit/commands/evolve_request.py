"""From the options of ``evolve`` to what a search is asked for. Imported late: it needs torch."""

from __future__ import annotations

from advkit.commands.attack_options import attack_params
from advkit.commands.evolve_config import EvolveConfig
from advkit.commands.train_config import PenaltyOptions, RecipeOptions
from advkit.commands.train_recipe import misalign_params, train_params
from advkit.evolution.params import SearchParams, SearchRequest
from advkit.evolution.recipe import UsualRecipe
from advkit.evolution.search_run import Attacks, SearchRun
from advkit.files.errors import InputError
from advkit.models.genome.limits import Limits
from advkit.reports import envelope
from advkit.reports.envelope import Input

METHODS = ("pgd", "mi,di")  # on R, where none is asked for


def search_request(config: EvolveConfig, device: str) -> SearchRequest:
    """What is asked for, but for attacks and the recipe without R'."""
    search = SearchParams(
        search=config.search,
        objective=config.objective,
        ageing=config.ageing,
        budget=config.budget,
        population=config.population,
        offspring=config.offspring,
        rungs=config.rungs,
        accuracy_floor=config.accuracy_floor,
        inherit=config.inherit,
        seed=config.seed,
        limits=Limits(max_parameters=config.max_parameters, max_multiply_adds=config.max_multiply_adds),
    )
    return SearchRequest(
        reference=config.reference,
        data=config.data,
        out=config.out,
        run_dir=config.run_dir if config.run_dir is not None else config.out.with_suffix(".run"),
        recipe_from=config.recipe_from,
        search=search,
        begin_with=config.begin_with,
        baselines=config.baseline,
        compare_runs=config.compare_run,
        candidate_images=config.candidate_images,
        candidate_epochs=config.candidate_epochs,
        validation_images=config.validation_images,
        finalists=config.finalists,
        limit=config.limit,
        download=config.download,
        fix_boxes=config.fix_boxes,
        device=device,
        workers=config.workers,
        ray=config.ray,
        threads=config.threads,
        candidate_timeout=config.candidate_timeout,
        force=config.force,
    )


def usual_recipe(config: EvolveConfig, device: str) -> UsualRecipe:
    """The defaults of ``train``, turned away from R with the weights that are asked for."""
    recipe = RecipeOptions(epochs=config.epochs)
    penalty = misalign_params(
        PenaltyOptions(misalign_weight=config.misalign_weight, smoothness_weight=config.smoothness_weight)
    )
    return UsualRecipe(
        lambda images: train_params(recipe, images, config.seed, device, misalign=penalty), recipe.validation
    )


def attacks(config: EvolveConfig, seed: int, device: str) -> Attacks:
    """The attacks on R.

    Raises:
        InputError: an unknown method, or one given twice; a value out of range.
    """
    names = config.method or METHODS
    found = [attack_params(config, name, seed=seed, device=device) for name in names]
    if len({attack.method.name for attack in found}) < len(found):
        raise InputError(f"--method: {', '.join(names)}: one of them twice; drop it")
    return [(attack, attack.to_json()) for attack in found]


def inputs(search_run: SearchRun) -> list[Input]:
    """R, R' and the data, for the report."""
    r_prime = search_run.recipe.r_prime
    like = [envelope.model_input(r_prime, "like")] if r_prime is not None else []
    return [envelope.model_input(search_run.reference, "R"), *like, envelope.data_input(search_run.images)]
