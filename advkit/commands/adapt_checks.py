"""What can be found wrong with an adaptation by its options, its model's header and the files there are.

Imported late: it needs torch. It opens no data.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from advkit.adaptation.registry import check_method
from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adapt_setup import adaptation_params, adversarial_params
from advkit.commands.checks import statistics
from advkit.commands.train_recipe import train_params
from advkit.commands.training_run import refuse_replacement, refuse_unfinished
from advkit.files.errors import InputError
from advkit.models.native_size import native_size
from advkit.tasks.task import task_named
from advkit.training.adversarial import check_objective
from advkit.training.params import AdversarialParams
from advkit.training.state import resume_path


def check_before_data(config: AdaptConfig, device: str) -> None:
    """Refuse now what would be refused after the data are read.

    Raises:
        InputError: names that don't exist, options that do nothing for the model's task, files of other runs.
    """
    adversarial = adversarial_params(config)
    if config.adversarial and adversarial is None:
        config.refuse(("objective",), "does nothing with --eps 0; leave it out")
    _check_model(config)
    controls = [control_path(config, name) for name in control_names(config, adversarial)]
    _check_report(config, [config.out, *controls])
    params = train_params(config, None, config.seed, device, adversarial=adversarial).to_json()
    if config.augment == "auto":  # the images decide
        del params["augment"]
    own = {"validation": config.validation, "limit": config.limit}
    told = adaptation_params(config).to_json() | {"target_labels": config.select == "oracle"}
    _refuse_file(config, config.out, params | own | {"adaptation": told})
    if config.resume and config.out.exists() and not resume_path(config.out).exists():
        raise InputError(f"{config.out}: this run is finished; nothing to resume")
    params.pop("adversarial", None)  # of the controls, the one on the target's labels is clean
    for path in controls:
        _refuse_file(config, path, params | own)


def control_names(config: AdaptConfig, adversarial: AdversarialParams | None) -> list[str]:
    """What the adapted network is compared with; ``adversarial`` is how the source is attacked."""
    names = []
    if config.compare and config.method != "none":
        names.append("source-only" if adversarial is None else "source-only-adversarial")
    if config.compare and config.target_labels:
        names.append("target-trained")
    return names


def control_path(config: AdaptConfig, name: str) -> Path:
    """The checkpoint of one of them: beside ``-o``."""
    return config.out.with_name(f"{config.out.stem}.{name}.safetensors")


def _check_report(config: AdaptConfig, checkpoints: list[Path]) -> None:
    """The report must not take the place of a checkpoint or of an unfinished run's state."""
    written = [os.path.realpath(path) for out in checkpoints for path in (out, resume_path(out))]
    if config.report is not None and os.path.realpath(config.report) in written:
        raise InputError(f"--report {config.report}: the run writes a network there; choose another name")


def _check_model(config: AdaptConfig) -> None:
    """What the model's task, known without its weights, leaves no room for."""
    native = native_size(config.model)
    if native is None:
        return  # only its code knows
    task = task_named(native.task)
    check_method(task, config.method)
    if config.objective is not None:
        check_objective(task, config.objective)
    if not task.smooths_labels:
        config.refuse(("label_smoothing",), f"does nothing in {task.name}; leave it out")
    if native.normalised and statistics(config.mean, config.std) != (None, None):
        raise InputError(f"--mean, --std: {config.model} brings its own; leave them out")


def _refuse_file(config: AdaptConfig, out: Path, params: dict[str, Any]) -> None:
    """Refuse to replace ``out`` where its settings differ from ``params``, or to forget an unfinished run of it."""

    def same(settings: Any) -> bool:
        known = settings.get("params") if isinstance(settings, dict) else None
        return isinstance(known, dict) and all(name in known and known[name] == params[name] for name in params)

    if config.force:
        return
    refuse_replacement(out, same)
    if not config.resume:
        refuse_unfinished(resume_path(out))
