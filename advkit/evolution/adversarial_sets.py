"""R's adversarial examples of the validation images: made once, as sets that every other tool takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advkit.attacks.dataset import attack_set, outcomes
from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.files.adversarial import AdversarialWriter, adversarial_metadata
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of

_BATCH = 128


def adversarial_path(directory: Path, params: AttackParams) -> Path:
    """Where the set of one method lies in a run directory."""
    return directory / f"adversarial-{params.method.name.replace(',', '-')}.safetensors"


def make_missing(
    directory: Path,
    reference: Network,
    images: ImageSet,
    attacks: Sequence[tuple[AttackParams, dict[str, Any]]],
    device: str,
) -> tuple[str, ...]:
    """Attack ``reference`` on ``images`` by each method that has no file yet; returns all files.

    Args:
        directory: of the run.
        reference: as loaded.
        images: the validation images.
        attacks: settings, and the same as JSON values for the file.
        device: where to work.
    """
    paths = []
    for params, described in attacks:
        path = adversarial_path(directory, params)
        if not path.exists():
            _make(path, reference, images, params, described, device)
        paths.append(str(path))
    return tuple(paths)


def _make(
    path: Path, reference: Network, images: ImageSet, params: AttackParams, described: dict[str, Any], device: str
) -> None:
    quick, task = [fuse_conv_bn(reference)], task_of([reference])
    metadata = adversarial_metadata(
        class_names=images.class_names,
        data=images.origin(),
        surrogates=[(reference.spec.ref, reference.spec.sha256)],
        attack=described,
    )
    with AdversarialWriter(path, len(images), images.size, metadata) as rows:
        for done in attack_set([reference], quick, images, params, None, batch_size=_BATCH, device=device):
            correct = task.correct(predict([reference], done.clean.to(device)).cpu(), done.targets)
            prediction = predict([reference], done.adversarial.to(device)).cpu()
            fooled = task.is_success(prediction, done.aims, params.targeted)
            rows.append(
                done.adversarial,
                labels=done.targets,
                index=done.indices,
                target=done.aims,
                prediction=prediction,
                outcome=outcomes(correct, fooled),
            )
