"""What is measured of a candidate: accuracy, transfer from R, and the controls beside it.

R is fixed, so its adversarial validation sets are made once; a candidate costs a few forward passes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from advkit.attacks import budget
from advkit.evolution.evaluation_context import EvaluationContext
from advkit.files.adversarial import read_adversarial
from advkit.metrics.gradient_similarity import pairwise_cosines
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.tasks.prediction import predict_in_batches
from advkit.transfer.rates import SurrogateOutcome, VictimOutcome, alike, count


def measure(context: EvaluationContext, network: Network, *, controls: bool = True) -> dict[str, Any]:
    """Accuracy and transfer from R on the validation images, and, with ``controls``, what else a report tells.

    These are the sign-flipped perturbation, noise of the same size, and the cosines with R's gradients.
    """
    clean, targets = context.clean, context.validation.targets

    def fooled(predictions: Tensor) -> np.ndarray:
        return context.task.is_success(predictions, targets, False).numpy()

    r_correct = context.correct.numpy()
    correct = context.task.correct(predict_in_batches(network, clean), targets).numpy()
    surrogates = [SurrogateOutcome(r_correct, fooled(own)) for own in context.predictions]
    seen = [predict_in_batches(network, images) for images in context.adversarial]
    victims = [
        VictimOutcome(correct, fooled(own), alike(theirs.numpy(), own.numpy()))
        for own, theirs in zip(seen, context.predictions, strict=True)
    ]
    counts = count(list(zip(surrogates, victims, strict=True)))
    found = {
        "validation": [int(correct.sum()), len(targets)],
        "cond": list(counts.cond),
        "both": list(counts.both),
        "by_method": [list(count([pair]).cond) for pair in zip(surrogates, victims, strict=True)],
    }
    if not controls:
        return found
    noisy = []
    for draw, path in enumerate(context.spec.adversarial):  # as many draws as there are methods in the union
        attack = read_adversarial(Path(path)).meta["attack"]
        eps, norm, seed = float(attack["eps"]), attack["norm"], int(attack["seed"]) + draw
        noise = budget.noise(clean, context.validation.indices.to(clean.device), eps, norm, seed)
        noisy.append(fooled(predict_in_batches(network, noise)))
    held = r_correct & correct & np.any([one.fooled for one in surrogates], axis=0)
    flipped = np.any(
        [fooled(predict_in_batches(network, budget.negated_perturbation(x, clean))) for x in context.adversarial],
        axis=0,
    )
    sums = pairwise_cosines([context.directions_of(fuse_conv_bn(network)), context.margin_gradients])
    signed, absolute, defined = sums[:, 0, 1].tolist()
    return {
        **found,
        "flipped": [int((flipped & held).sum()), int(held.sum())],
        "noise": [int((np.any(noisy, axis=0) & held).sum()), int(held.sum())],
        "cosine": signed / defined if defined else None,
        "absolute_cosine": absolute / defined if defined else None,
        "cosine_images": int(defined),
    }
