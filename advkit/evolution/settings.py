"""The settings of a run: all that decides its records, as JSON values. They tell one run from another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

import advkit
from advkit.data.images import ImageSet
from advkit.evolution.params import SearchRequest
from advkit.evolution.recipe import Recipe
from advkit.evolution.run_directory import SPEC
from advkit.files.tensors import fingerprint
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Genome, to_json
from advkit.models.network import ModelSpec


def run_settings(
    request: SearchRequest,
    recipe: Recipe,
    reference: ModelSpec,
    images: ImageSet,
    attacks: Sequence[dict[str, Any]],
    first: Sequence[Genome],
) -> dict[str, Any]:
    """Files, workers, displays and what is made of the records are not among them.

    Args:
        request: what was asked; its ``candidate_images`` are no more than there are.
        recipe: of the final trainings.
        reference: R.
        images: all images of the data.
        attacks: on R, as JSON values.
        first: genomes that the search begins with.
    """
    r_prime = recipe.r_prime
    return {
        "spec": SPEC,
        "versions": {"advkit": advkit.__version__, "torch": torch.__version__},
        "device": request.device.partition(":")[0],
        "search": dataclasses.asdict(request.search),
        "recipe": recipe.params.to_json(),
        "validation": recipe.validation,
        "validation_images": request.validation_images,
        "reference": reference.sha256,
        "data": images.fingerprint,
        "data_seed": recipe.data_seed,
        "mean": list(recipe.mean),
        "std": list(recipe.std),
        "attacks": list(attacks),
        "candidate_images": request.candidate_images,
        "candidate_epochs": request.candidate_epochs,
        "like": fingerprint(r_prime.net.state_dict()) if r_prime is not None else None,
        "begin_with": [to_json(canonical(genome)) for genome in first],
        "threads": request.threads,
    }
