"""``advkit train``: a classifier, plain or turned away from reference networks."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advkit.commands import options, output
from advkit.commands.opening import load_for, pick_device
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.training.loop import Run
    from advkit.training.params import TrainParams


def train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint to write.")],
    arch: Annotated[str, typer.Option(metavar="ARCH", help="Architecture, e.g. advkit/resnet20.")] = "",
    init: Annotated[str, typer.Option(metavar="MODEL", help="Start from this model's weights.")] = "",
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Images and labels, e.g. digits.")] = "",
    validation: Annotated[float, typer.Option(help="Part of the training images held out.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=0, help="0 packs the weights as they are.")] = 10,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a step, over all processes.")] = 128,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw.")] = "sgd",
    lr: Annotated[float | None, typer.Option(help="Peak learning rate [0.1 for sgd, 0.002 for adamw].")] = None,
    weight_decay: Annotated[float, typer.Option(help="Of weights, not of biases and batch-norm.")] = 5e-4,
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9,
    schedule: Annotated[str, typer.Option(help="one-cycle, cosine or constant.")] = "one-cycle",
    label_smoothing: Annotated[float, typer.Option(help="Mass spread over all classes.")] = 0.0,
    clip: Annotated[float, typer.Option(help="Bound on the norm of the whole gradient; 0 for none.")] = 1.0,
    ema: Annotated[float, typer.Option(help="Decay of an average of the weights; 0 for none.")] = 0.0,
    augment: Annotated[str, typer.Option(help="auto, none, or of crop,flip,cutout.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    mean: Annotated[str | None, typer.Option(help="Normalisation, one number a channel [from the data].")] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    misalign_from: Annotated[list[str] | None, typer.Option(metavar="MODEL", help="Reference; repeatable.")] = None,
    misalign_weight: Annotated[float, typer.Option(help="Factor of the penalty.")] = 1.0,
    misalign_penalty: Annotated[str, typer.Option(help="abs, square or signed.")] = "abs",
    misalign_at: Annotated[str, typer.Option(help="clean, noise, adversarial, or several.")] = "clean",
    misalign_eps: Annotated[str, typer.Option(help="Linf radius of noise and adversarial.")] = "8/255",
    misalign_steps: Annotated[int, typer.Option(min=1, help="PGD steps of adversarial.")] = 2,
    misalign_warm_up: Annotated[float, typer.Option(help="Epochs over which the penalty rises.")] = 1.0,
    smoothness_weight: Annotated[float, typer.Option(help="Factor of 2 mean ||gradient||^2.")] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    size: options.Size = None,
    device: options.Device = "auto",
    download: options.Download = False,
    force: options.Force = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Train a classifier and write a checkpoint.

    With --misalign-from, the network's input gradients are turned away from those of the reference.
    """
    clock = output.Clock()
    given = dict(locals())
    _check(given)
    from advkit.files.lock import sole_writer
    from advkit.training import distributed
    from advkit.training.state import resume_path

    rank, world = distributed.start()
    try:
        with sole_writer(out, resume_path(out)) if rank == 0 else contextlib.nullcontext():
            return _train(given, clock, rank, world)
    finally:
        distributed.stop()


def _check(given: dict[str, Any]) -> None:
    """What can be found wrong before anything heavy is imported."""
    options.check_outputs(given, "out", "report")
    if given["out"].suffix != ".safetensors":
        raise InputError(f"-o {given['out']}: a checkpoint's name ends in .safetensors")
    if not given["arch"] and not given["init"]:
        raise InputError("give --arch ARCH (e.g. advkit/resnet20), or --init MODEL to start from weights")
    if given["epochs"] and not given["data"]:
        raise InputError("--data DATA is needed to train; only --epochs 0 goes without")
    options.choice("optimizer", given["optimizer"], ("sgd", "adamw"))
    options.choice("schedule", given["schedule"], ("one-cycle", "cosine", "constant"))
    options.choice("precision", given["precision"], ("auto", "float32", "bfloat16"))
    options.choice("misalign-penalty", given["misalign_penalty"], ("abs", "square", "signed"))
    options.within("validation", given["validation"], 0.0, 1.0, open_end=True)
    options.within("label-smoothing", given["label_smoothing"], 0.0, 1.0, open_end=True)
    options.within("ema", given["ema"], 0.0, 1.0, open_end=True)
    options.within("momentum", given["momentum"], 0.0, 1.0, open_end=True)
    for name in ("lr", "clip", "weight_decay", "misalign_weight", "misalign_warm_up", "smoothness_weight"):
        options.within(name.replace("_", "-"), given[name], 0.0, 1e6)
    if not given["misalign_from"]:
        _need_reference(given)


def _need_reference(given: dict[str, Any]) -> None:
    """Options of the penalty without a reference would do nothing: say so."""
    defaults = {
        "misalign_weight": 1.0,
        "misalign_penalty": "abs",
        "misalign_at": "clean",
        "misalign_eps": "8/255",
        "misalign_steps": 2,
        "misalign_warm_up": 1.0,
        "smoothness_weight": 0.0,
    }
    for name, default in defaults.items():
        if given[name] != default:
            raise InputError(f"--{name.replace('_', '-')} does nothing without --misalign-from MODEL")


def _train(given: dict[str, Any], clock: output.Clock, rank: int, world: int) -> int:
    import torch

    from advkit.commands import train_result, train_setup
    from advkit.training import measure
    from advkit.training.state import resume_path

    if world > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // world))
    device, out = pick_device(given["device"]), given["out"]
    if world > 1 and device == "cuda":  # a GPU for each process
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if given["misalign_from"] and not given["epochs"] and not given["data"]:
        raise InputError("--misalign-from: without --epochs and --data there is nothing to turn away; leave it out")
    images = _open_data(given)
    train_part, validation_part = _parts(images, given)
    network = train_setup.open_network(given, images, train_part, device)
    references = [load_for(ref, images, device) for ref in given["misalign_from"] or []] if images else []
    params = train_setup.train_params(given, images, device)
    settings = _settings(given, params, network, images, references, world)
    _refuse_foreign(given["out"], settings, given["force"])
    state_path = resume_path(given["out"])
    run = _run(network, images, train_part, validation_part, references, params, state_path, settings)
    if given["resume"] and not state_path.exists() and given["out"].exists():
        raise InputError(f"{given['out']}: this run is finished; nothing to resume")
    if state_path.exists() and not given["resume"] and not given["force"]:
        raise InputError(f"{state_path}: an unfinished run; go on with --resume, or start anew with --force")
    if params.epochs:
        _fit(run, given, rank)
    looked = images is not None and references and len(validation_part)
    cosines = measure.cosines(network, references, images, validation_part) if looked and images else []
    result = train_result.collect(run, out, cosines)
    status = 0
    if rank == 0:
        train_result.write(run, out, given["seed"], result)
        status = output.finish(
            "train",
            result,
            table=lambda: train_result.table(result),
            clock=clock,
            seed=given["seed"],
            device=device,
            params=settings["params"],
            inputs=[
                *([output.data_input(images)] if images else []),
                *[output.model_input(reference) for reference in references],
            ],
            report_file=given["report"],
            as_json=given["as_json"],
            quiet=given["quiet"],
            processes=world,
        )
    return status


def _open_data(given: dict[str, Any]) -> ImageSet | None:
    from advkit.data import reference

    if not given["data"]:
        return None
    side = given["size"]
    return reference.load(
        given["data"],
        role="train",
        limit=given["limit"],
        seed=given["seed"],
        size=(side, side) if side else None,
        download=given["download"],
    )


def _parts(images: ImageSet | None, given: dict[str, Any]) -> tuple[Any, Any]:
    import torch

    from advkit.data.sampling import hold_out

    if images is None:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    return hold_out(images.labels, given["validation"], given["seed"])


def _settings(
    given: dict[str, Any],
    params: TrainParams,
    network: Network,
    images: ImageSet | None,
    references: list[Network],
    world: int,
) -> dict[str, Any]:
    """All that decides the bytes of the checkpoint, as JSON values; file names and reports do not."""
    from advkit.files.tensors import fingerprint

    return {
        "params": params.to_json() | {"validation": given["validation"], "limit": given["limit"]},
        "architecture": network.spec.architecture,
        **({"model_args": network.spec.model_args} if network.spec.model_args else {}),
        "start": fingerprint(network.net.state_dict()),
        "mean": list(network.spec.mean),
        "std": list(network.spec.std),
        "data": images.fingerprint if images is not None else None,
        "references": [reference.spec.sha256 for reference in references],
        "processes": world,
    }


def _refuse_foreign(out: Path, settings: dict[str, Any], force: bool) -> None:
    """A checkpoint of another run (or another file) is not replaced unasked."""
    from advkit.files.checkpoint import read_checkpoint

    if not out.exists() or force:
        return
    try:
        same = read_checkpoint(out).meta.get("settings") == settings
    except InputError as error:
        raise InputError(f"{out}: exists and is no checkpoint of this run; --force replaces it") from error
    if not same:
        raise InputError(f"{out}: holds the checkpoint of another run; choose another name or --force")


def _run(
    network: Network,
    images: ImageSet | None,
    train_part: Any,
    validation_part: Any,
    references: list[Network],
    params: TrainParams,
    state_path: Path,
    settings: dict[str, Any],
) -> Run:
    from advkit.models.fold import folded
    from advkit.training.loop import Run

    frozen = [folded(reference) for reference in references]
    return Run(network, images, train_part, validation_part, frozen, params, state_path, settings)  # type: ignore[arg-type]


def _fit(run: Run, given: dict[str, Any], rank: int) -> None:
    from advkit.files.signals import graceful
    from advkit.training.loop import Progress, train

    line = output.Progress(given["quiet"] or rank != 0)

    def show(state: Progress) -> None:
        line.show(
            f"epoch {state.epoch + 1}/{run.params.epochs}  step {state.step}/{state.steps}  loss {state.loss:.3f}  "
            f"accuracy {100 * state.accuracy:.1f} %  {output.duration(state.left)} left"
        )

    with graceful() as stop:
        try:
            train(run, resume=given["resume"], stop=stop, show=show)
        finally:
            line.clear()
