"""The networks that an adapted one is compared with: trained as it is, on the source alone or on the target's labels.

They lie beside the checkpoint, ``NAME.CONTROL.safetensors``, and are trained before it: a run that goes on finds those
that are finished.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from advkit.commands.adapt_checks import control_names, control_path
from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adapt_setup import AdaptSetup
from advkit.commands.training_run import fit, refuse_foreign, write
from advkit.files.checkpoint import read_checkpoint
from advkit.files.streams import say
from advkit.models.network import Network
from advkit.training.run import Run
from advkit.training.state import resume_path


@dataclass
class Control:
    """One network to compare with.

    Attributes:
        name: ``source-only``, ``source-only-adversarial`` where it is attacked as the adapted one is, or
            ``target-trained``.
        job: its training; one without epochs leaves the network as it is.
        out: its checkpoint.
        finished: it was trained before.
    """

    name: str
    job: Run
    out: Path
    finished: bool

    @property
    def network(self) -> Network:
        """The trained network."""
        return self.job.network

    @property
    def started(self) -> bool:
        """Whether an earlier run has left it, finished or not."""
        return self.finished or resume_path(self.out).exists()


def controls_of(config: AdaptConfig, setup: AdaptSetup, processes: int) -> list[Control]:
    """What ``--compare`` asks for, looked for and, where it is there, read.

    Raises:
        InputError: a checkpoint of another run, or an unfinished run that is not asked to go on.
    """
    make = {"target-trained": _target_trained}
    make |= dict.fromkeys(("source-only", "source-only-adversarial"), _source_only)
    found = [
        make[name](config, setup, name, processes) for name in control_names(config, setup.start.params.adversarial)
    ]
    for control in found:
        refused = replace(config, out=control.out, resume=config.resume and not control.finished)
        refuse_foreign(refused, control.job.settings, resume_path(control.out))
    return found


def _source_only(config: AdaptConfig, setup: AdaptSetup, name: str, processes: int) -> Control:
    """The same training without the target, adversarial where that is."""
    start = replace(setup.start, network=copy.deepcopy(setup.start.network))
    return _control(config, start, name, processes)


def _target_trained(config: AdaptConfig, setup: AdaptSetup, name: str, processes: int) -> Control:
    """The same training on the target's labelled images, clean, and on all of them."""
    labelled = setup.labelled
    assert labelled is not None
    start = replace(
        setup.start,
        images=labelled,
        train=torch.arange(len(labelled)),
        validation=torch.empty(0, dtype=torch.int64),
        network=copy.deepcopy(setup.start.network),
        params=replace(setup.start.params, adversarial=None),
    )
    return _control(config, start, name, processes)


def _control(config: AdaptConfig, start: Any, name: str, processes: int) -> Control:
    out = control_path(config, name)
    settings = start.settings(config, processes) | {"control": name}
    job = Run(start.network, start.images, start.train, start.validation, [], start.params, resume_path(out), settings)
    control = Control(name, job, out, finished=False)
    if out.exists() and not config.force:
        checkpoint = read_checkpoint(out)
        if checkpoint.meta.get("settings") == settings and not resume_path(out).exists():
            start.network.net.load_state_dict(checkpoint.tensors)
            start.network.eval().requires_grad_(False)
            control.finished = True
    return control


def train_controls(controls: list[Control], config: AdaptConfig, rank: int) -> None:
    """Train those that are not finished, and write them."""
    for control in controls:
        if control.finished or not control.job.params.epochs:
            continue
        if rank == 0 and not config.quiet:
            say(f"advkit: training {control.name}, to compare with")
        own = replace(config, out=control.out, resume=config.resume and resume_path(control.out).exists())
        fit(control.job, own, rank)
        if rank == 0:
            write(control.job, own, "adapt", {"epochs": control.job.history})
