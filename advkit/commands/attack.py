"""``advkit attack``: adversarial examples on one network, or on an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advkit.commands.attack_options import AttackConfig, aim_at, attack_params, check_budget
from advkit.commands.checks import check_figure, check_outputs
from advkit.commands.config import command
from advkit.commands.loading import Opened, device_of_rank, names_of, open_all
from advkit.commands.output import Progress
from advkit.files.atomic import require_writable
from advkit.files.errors import InputError
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.attacks.params import AttackParams
    from advkit.attacks.verdicts import BatchVerdict
    from advkit.data.images import ImageSet
    from advkit.reports.attack import RobustAccuracy

    Write = Callable[[BatchVerdict], None]


def run(config: AttackConfig) -> int:
    """Write adversarial images made on MODEL, and say how well they fool it."""
    clock = Clock()
    _check(config)
    from advkit.parallel import process_group

    with process_group.joined() as (rank, world):
        return _attack(config, clock, device_of_rank(config.device, world), rank, world)


def _attack(config: AttackConfig, clock: Clock, device: str, rank: int, world: int) -> int:
    """Attack and judge this process's part; ``rank`` 0 of ``world`` counts and writes that of all, and reports."""
    params = attack_params(
        config,
        config.method,
        goal=config.goal,
        seed=config.seed,
        device=device,
        quantize=config.quantized,
        unbounded=True,
    )
    if config.goal == "transfer" and params.method.attack.worst_case:
        name = params.method.attack.name
        raise InputError(f"--goal transfer: {name} looks for the worst case of each image; leave it out")
    from advkit.reports import attack as reports

    if config.figure is not None and not reports.tells_curve(params):
        methods = "fmn, ddn, cw and fab-t, without --eps and --target,"
        raise InputError(f"--figure {config.figure}: only {methods} tell robust accuracy over eps; leave it out")
    opened = open_all(config, config.models, device)
    check_budget(config, opened.images)
    from advkit.attacks.dataset import attack_images, clean_batch, pool_for, windows
    from advkit.attacks.objective import settled
    from advkit.attacks.verdicts import judge
    from advkit.commands.attack_resume import interruption_told, open_resume_folder, probed_or_resumed
    from advkit.models.fuse import fuse_conv_bn
    from advkit.parallel import process_group
    from advkit.reports import envelope
    from advkit.tasks.task import task_of

    params, networks = settled(params, opened.networks), opened.networks
    aim, chosen = aim_at(config, networks, opened.images)
    gradient_models = [fuse_conv_bn(network) for network in networks]
    params = probed_or_resumed(config, params, gradient_models, chosen, device)
    task, size = task_of(networks), process_group.items_each(config.batch_size, len(chosen))
    parts, pool = windows(chosen, params, task, size, world), pool_for(networks, chosen, [params])

    def verdicts(k: int) -> Iterator[BatchVerdict]:
        clean = clean_batch(chosen, parts[k])
        window = folder.window(parts[k])
        done = attack_images(networks, gradient_models, clean, params, aim, device, size, pool, window)
        for one in done.split(size):
            yield judge(one, networks, params, device, config.quantized)

    folder = open_resume_folder(config, opened, chosen, params, parts)
    with (
        interruption_told(folder),
        _writer(config, opened, chosen, params, rank) as write,
        Progress(config.quiet or rank > 0) as progress,
    ):
        folder.on_stage = progress.note
        flags = opened.sanity_flags(chosen, config.batch_size) if rank == 0 else []
        summary = reports.AttackSummary(opened.names, params, task, flags)
        for verdict in process_group.shared(verdicts, len(parts)):
            write(verdict)
            summary.add(verdict)
            progress.step("attack", summary.images, len(chosen))
    if rank > 0:
        return 0
    summary.attack_unbounded(networks, gradient_models, chosen, device, config.batch_size)
    left_out = len(opened.images) - len(chosen)
    result = summary.result(
        config.out, config.quantized, left_out, chosen.class_names, fail_on_flag=config.fail_on_flag
    )
    if config.figure is not None:
        _draw(config.figure, result.robust_accuracy, params, opened.names)
    status = envelope.finish(
        "attack",
        result,
        config,
        table=lambda: reports.table(result, params),
        clock=clock,
        device=device,
        params=params.to_json() | {"target": config.target, "limit": config.limit},
        inputs=opened.inputs(),
        flags=[*opened.warnings(), *result.suspicions],
        passed=result.gates,
        processes=world,
    )
    folder.remove()
    return status


def _check(config: AttackConfig) -> None:
    if config.out.suffix not in ("", ".safetensors"):
        raise InputError(f"-o {config.out}: write FILE.safetensors, or a name without suffix for a folder of PNGs")
    if config.png:
        require_writable(config.out.parent / f".{config.out.name}")
    check_outputs(config, *([] if config.png else ["out"]), "figure", "report")
    check_figure("figure", config.figure)
    names_of(config.models)


def _draw(path: Path, curve: Sequence[RobustAccuracy], params: AttackParams, names: Sequence[str]) -> None:
    from advkit.figures.robust_accuracy import draw

    rates = [point.accuracy for point in curve]
    draw(
        path,
        [point.eps for point in curve],
        [one.rate or 0.0 for one in rates],
        [one.interval or (0.0, 1.0) for one in rates],
        title=f"{', '.join(names)}: {params.method.name}, {rates[0].total} images",
        norm=params.norm,
    )


@contextlib.contextmanager
def _writer(config: AttackConfig, opened: Opened, images: ImageSet, params: AttackParams, rank: int) -> Iterator[Write]:
    """A function that writes one batch, to a safetensors file or a folder of PNGs; ``rank`` 0 alone does."""
    if rank > 0:
        yield lambda verdict: None
        return
    import torch

    from advkit.files.adversarial import AdversarialWriter, adversarial_metadata, is_adversarial
    from advkit.files.image_folder import FolderWriter, image_folder
    from advkit.tasks.task import task_of

    out = config.out
    metadata = adversarial_metadata(
        class_names=images.class_names,
        data=images.origin(),
        surrogates=[(network.spec.ref, network.spec.sha256) for network in opened.networks],
        attack=params.to_json(),
    )
    writer: contextlib.AbstractContextManager[AdversarialWriter | FolderWriter]
    task = task_of(opened.networks)
    if config.png and task.has_places:
        raise InputError(f"-o {out}: a folder of PNGs has no place for boxes; write FILE.safetensors")
    if config.png:
        writer = image_folder(out, metadata, force=config.force)
    elif out.exists() and not config.force and not is_adversarial(out):
        raise InputError(f"{out}: exists and is no adversarial set; --force replaces it")
    else:
        none = images.targets[:0]
        columns = task.columns(torch.empty(0, *images.size), none, none, none)
        writer = AdversarialWriter(out, len(images), images.size, metadata, quantized=config.quantized, columns=columns)
    with writer as rows:
        yield lambda verdict: rows.append(verdict.pixels, **verdict.columns)


attack = command(AttackConfig, run)
