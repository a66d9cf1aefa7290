"""``attack --resume``: where what is done is saved, and for which attack."""

from __future__ import annotations

import contextlib
import hashlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from advkit import __version__
from advkit.attacks.params import AttackParams
from advkit.attacks.resume_folder import ResumeFolder, discard, refuse_other_files, resume_path, saved_precision
from advkit.commands.attack_options import AttackConfig, probed
from advkit.commands.loading import Opened
from advkit.data.images import ImageSet
from advkit.files.errors import Interrupted
from advkit.files.tensors import fingerprint
from advkit.parallel import process_group


def probed_or_resumed(
    config: AttackConfig, params: AttackParams, gradient_models: Sequence[nn.Module], images: ImageSet, device: str
) -> AttackParams:
    """``params`` with the precision that ``auto`` was when the attack began, or is now."""
    known = saved_precision(resume_path(config.out)) if config.resume and config.precision == "auto" else None
    if known in ("float32", "bfloat16"):
        return replace(params, precision=known)  # type: ignore[arg-type]
    return probed(config, params, gradient_models, images, device, config.batch_size)


def open_resume_folder(
    config: AttackConfig, opened: Opened, images: ImageSet, params: AttackParams, parts: Sequence[slice]
) -> ResumeFolder:
    """The folder beside the output; with --force what another run left there is gone, whichever process comes first.

    Raises:
        InputError: nothing to resume, another attack's state, other files.
    """
    settings = {
        "params": params.to_json() | {"target": config.target, "limit": config.limit},
        "batch-size or number of processes": [config.batch_size, *(part.stop for part in parts[:1]), len(parts)],
        "models": [
            [network.spec.ref, fingerprint(network.net.state_dict()), _source_hash(network.spec.ref)]
            for network in opened.networks
        ],
        "mean and std": [[*network.spec.mean, *network.spec.std] for network in opened.networks],
        "data": images.fingerprint,
        "advkit": __version__,
    }
    path = resume_path(config.out)
    with process_group.first_rank_first():
        if config.force and not config.resume and process_group.rank() == 0:
            refuse_other_files(path)
            discard(path)
        return ResumeFolder(path, settings, resume=config.resume)


def _source_hash(ref: str) -> str | None:
    """sha256 of the file whose factory ``ref`` names: its weights don't tell what the network does with them."""
    path = Path(ref.rpartition(":")[0])
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.suffix == ".py" and path.is_file() else None


@contextlib.contextmanager
def interruption_told(folder: ResumeFolder) -> Iterator[None]:
    """Whoever interrupts the block is told what it left, if anything."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        if not folder.path.exists():
            raise
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(signum, f"{folder.path} has what was done; go on with --resume") from error
