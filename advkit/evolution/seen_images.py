"""Which of the held-out images R itself was trained on: candidates never see them, but R may have."""

from __future__ import annotations

from pathlib import Path

import torch

from advkit.evolution.evaluation_context import DataParts, load_training_images
from advkit.evolution.params import SearchRequest
from advkit.evolution.recipe import Recipe, started_fresh
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.models.network import Network
from advkit.tasks.sampling import hold_out
from advkit.tasks.task import task_of


def count_seen(request: SearchRequest, reference: Network, recipe: Recipe, parts: DataParts) -> int | None:
    """How many of the validation images R was trained on; None when its file does not tell.

    A checkpoint of ``train`` tells the fingerprint of its images, the sample and what was held out of it. That these
    are images of this run's DATA is seen by drawing that sample and comparing fingerprints.

    Args:
        request: tells R and DATA.
        reference: R, open.
        recipe: tells this run's sample of DATA.
        parts: this run's images.
    """
    path = Path(request.reference)
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        settings = read_checkpoint(path).meta.get("settings") or {}
        params = settings["params"]
        limit, seed, validation = params["limit"], int(params["seed"]), float(params["validation"])
        known, trained = settings["data"], int(params["epochs"]) > 0
    except (InputError, KeyError, TypeError, ValueError):  # no checkpoint of train
        return None
    if not trained or known is None:  # packed weights of somebody else's training
        return None
    data, task = parts.data, task_of([reference])
    if known != data.fingerprint and (limit, seed) != (recipe.limit, recipe.data_seed):
        size = reference.spec.input_size
        data = load_training_images(
            request.data, task, size, limit=limit, seed=seed, download=False, fix_boxes=request.fix_boxes
        )
    if known != data.fingerprint:
        return None
    train = data.indices[hold_out(task, data, validation, seed)[0]]
    seen = int(torch.isin(parts.validation.indices, train).sum())
    fresh = ".py:" not in reference.spec.architecture and started_fresh(reference.spec, seed, settings)
    return seen if seen or fresh else None  # what came before --init, nobody knows
