"""``advkit transfer-matrix``: does an attack on this network also fool that one, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advkit.commands import options, output
from advkit.commands.loading import model_warnings, names_of
from advkit.commands.matrix_setup import measured, open_setup, threads_of
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.reports.results import Gate, Pair, TransferMatrixResult
    from advkit.transfer.matrix import Matrix, Plan, SurrogateRun

RATES = ("cond", "both", "raw", "same")
FIGURES = (".png", ".svg", ".pdf")


def transfer_matrix(
    models: Annotated[list[str], typer.Argument(metavar="[NAME=]MODEL...", help="Surrogates and victims.")],
    data: options.DataOption,
    method: Annotated[list[str] | None, typer.Option(help="As for attack; repeat for several and their union.")] = None,
    surrogate: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Attack only this model; repeatable [all].")
    ] = None,
    adversarial: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A set that attack wrote, as one more row; repeatable.")
    ] = None,
    compare: Annotated[
        list[str] | None, typer.Option(metavar="R:A,B", help="Paired test of victims A and B under surrogate R.")
    ] = None,
    eps: options.Eps = "8/255",
    norm: options.NormOption = "linf",
    steps: options.Steps = 10,
    step_size: options.StepSize = None,
    loss: options.LossOption = "ce",
    target: options.Target = None,
    random_start: options.RandomStart = None,
    restarts: options.Restarts = 1,
    decay: options.Decay = 1.0,
    di_probability: options.DiProbability = 0.5,
    di_shrink: options.DiShrink = 0.9,
    ti_kernel: options.TiKernel = None,
    si_scales: options.SiScales = 5,
    precision: options.PrecisionOption = "float32",
    gradients: Annotated[bool, typer.Option("--gradients/--no-gradients", help="Measure gradient cosines.")] = True,
    rate: Annotated[str, typer.Option(help="Shown and gated: cond, both, raw or same.")] = "cond",
    fail_above: options.FailAbove = None,
    fail_below: options.FailBelow = None,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Heat map as .png, .svg or .pdf.")] = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 128,
    size: options.Size = None,
    workers: options.Workers = 1,
    ray: options.Ray = None,
    device: options.Device = "auto",
    download: options.Download = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Attack every MODEL, let every MODEL look at the result, and count.

    Rates are over the images that surrogate and victim both get right and that fool the surrogate.
    """
    clock = output.Clock()
    given = dict(locals())
    names = names_of(models)
    _check(given, names)
    setup = open_setup(given)
    plan, chosen, images = setup.plan, setup.chosen, setup.images
    from advkit.commands import matrix_result, matrix_text

    ready = [_precomputed(plan, setup.networks, chosen, path) for path in adversarial or []]  # first: they may not fit
    _require_pair(given, plan, ready)
    line = output.Progress(quiet)
    found = measured(setup, given, lambda done: line.step("attack and look", done, len(chosen)))
    line.clear()
    found.attempts += ready
    comparisons = [_parse_compare(text, names, matrix_result.rows(found)) for text in compare or []]
    result = matrix_result.collect(plan, found, chosen, comparisons)
    result.gates = _gates(given, result.pairs)
    result.figure = str(figure) if figure is not None else None
    subtitle = _subtitle(result)
    if figure is not None:
        matrix_text.draw(figure, result, rate, subtitle)
    inputs = [output.model_input(network, name) for network, name in zip(setup.networks, names, strict=True)]
    return output.finish(
        "transfer-matrix",
        result,
        table=lambda: matrix_text.table(result, rate, f"{subtitle}, {chosen.ref}#{chosen.split}"),
        clock=clock,
        seed=seed,
        device=plan.device,
        params={
            "methods": [options.params_json(params) for params in plan.params if plan.surrogates],
            "target": target,
            "limit": limit,
            "rate": rate,
        },
        inputs=[*inputs, output.data_input(images)],
        flags=model_warnings(names, models, setup.networks, images) + _flags(plan, chosen, found, result),
        report_file=report,
        as_json=as_json,
        quiet=quiet,
        passed=result.gates,
        processes=workers,
        threads=threads_of(workers, ray),
    )


def _check(given: dict[str, Any], names: list[str]) -> None:
    options.check_outputs(given, "report", "figure")
    if given["figure"] is not None and given["figure"].suffix not in FIGURES:
        raise InputError(f"--figure {given['figure']}: the name ends in {', '.join(FIGURES)}")
    options.choice("rate", given["rate"], RATES)
    for name in ("fail_above", "fail_below"):
        options.check_range(name.replace("_", "-"), given[name], 0.0, 1.0)
        if given[name] is not None and len(names) < 2 and not given["adversarial"]:
            raise InputError(f"--{name.replace('_', '-')}: no pair of two models to judge; give another MODEL")
    for name in given["surrogate"] or []:
        if name not in names:
            raise InputError(f"--surrogate {name}: no such model; there are {', '.join(names)}")
        if given["surrogate"].count(name) > 1:
            raise InputError(f"--surrogate {name}: given twice; drop one")
    sets = [_set_name(path) for path in given["adversarial"] or []]
    for name in sets:
        if [*names, *sets].count(name) > 1:
            raise InputError(f"--adversarial {name}: another row has that name; rename the file")
    for text in given["compare"] or []:
        _parse_compare(text, names, [*(given["surrogate"] or names), *sets])


def _set_name(path: Path) -> str:
    return path.name.removesuffix(".safetensors")


def _parse_compare(text: str, names: Sequence[str], surrogates: Sequence[str]) -> tuple[str, str, str]:
    surrogate, colon, victims = text.partition(":")
    a, comma, b = victims.partition(",")
    if not (colon and comma):
        raise InputError(f"--compare {text}: write R:A,B, the surrogate and two victims")
    for name, known in ((surrogate, surrogates), (a, names), (b, names)):
        if name not in known:
            raise InputError(f"--compare {text}: {name!r} is not among {', '.join(known)}")
    return surrogate, a, b


def _subtitle(result: TransferMatrixResult) -> str:
    """The budgets of all rows, those of ready-made sets too."""
    budgets: dict[str, list[str]] = {}
    for row in result.surrogate_success:
        rows = budgets.setdefault(output.budget(row.norm, row.eps), [])
        rows += [row.surrogate] if row.surrogate not in rows else []
    if len(budgets) == 1:
        return next(iter(budgets))
    return ", ".join(f"{' '.join(rows)}: {budget}" for budget, rows in budgets.items())


def _precomputed(plan: Plan, networks: Sequence[Network], images: ImageSet, path: Path) -> SurrogateRun:
    """A ready-made set as a row; it must have been made from just these images."""
    import torch

    from advkit.files.adversarial import read_adversarial
    from advkit.metrics.norms import flat_norm
    from advkit.transfer.precomputed import precomputed

    found = read_adversarial(path)
    place = {index: position for position, index in enumerate(images.indices.tolist())}
    missing = [index for index in found.index.tolist() if index not in place]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of its {len(found.index)} images are not in {images.ref}; give its DATA"
        )
    positions = torch.tensor([place[index] for index in found.index.tolist()], dtype=torch.int64)
    if not torch.equal(images.targets[positions], found.labels):
        raise InputError(f"{path}: its labels are not those of {images.ref}; it was made from other data")
    bound, norm = float(found.meta["attack"]["eps"]), found.meta["attack"]["norm"]

    def check(adversarial: Any, clean: Any) -> None:
        if not bool(((adversarial >= 0) & (adversarial <= 1)).all()):  # NaN is neither
            raise InputError(f"{path}: pixels outside [0, 1]; write it again")
        if adversarial.shape != clean.shape or not bool((flat_norm(adversarial - clean, norm) <= bound + 1e-5).all()):
            raise InputError(f"{path}: lies further than its eps {bound:.4g} from {images.ref}; made from other data")

    made_on = {one["sha256"] for one in found.meta["surrogates"]}
    crafted_on = tuple(place for place, network in enumerate(networks) if network.spec.sha256 in made_on)
    return precomputed(plan, images, found, _set_name(path), crafted_on, positions, check)


def _require_pair(given: dict[str, Any], plan: Plan, ready: Sequence[SurrogateRun]) -> None:
    """Raise InputError when a bound was given and every row was made on all the models there are."""
    rows = [(one,) for one in plan.surrogates] + [one.crafted_on for one in ready]
    if any(set(range(len(plan.names))) - set(crafted_on) for crafted_on in rows):
        return
    for name in ("fail_above", "fail_below"):
        if given[name] is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: no transfer to judge, every row was made on every model there is"
            )


def _twins(plan: Plan, a: str, b: str) -> bool:
    one, two = (plan.networks[plan.names.index(name)].spec for name in (a, b))
    return (one.sha256, one.architecture) == (two.sha256, two.architecture)


def _gates(given: dict[str, Any], pairs: Sequence[Pair]) -> list[Gate]:
    """Every transfer (to another network than the images were made on) must keep the bounds."""
    from advkit.commands import matrix_result

    kind = given["rate"]
    found: list[Gate] = []
    for pair in matrix_result.headline(pairs):
        if not pair.white_box:
            what = f"T_{kind} {pair.surrogate} -> {pair.victim} ({pair.method})"
            found += output.gates(what, getattr(pair, kind).rate, given["fail_above"], given["fail_below"])
    return found


def _flags(plan: Plan, images: ImageSet, found: Matrix, result: TransferMatrixResult) -> list[str]:
    from advkit.attacks.sanity_checks import sanity_checks
    from advkit.commands import matrix_result

    sample = images.batch(slice(0, 32))[0].to(plan.device)
    flags = []
    for place, (name, network) in enumerate(zip(plan.names, plan.networks, strict=True)):
        flags += [f"{name}: {flag}" for flag in sanity_checks(network, sample) if flag != "not-finite"]
        clean = int((found.clean[place] == -1).sum())
        looks = [
            f"{int(bad.sum())} of {one.surrogate}'s ({one.method})"
            for one in found.attempts
            if (bad := one.victims[place] == -1).any()
        ]
        if clean or looks:
            flags.append(f"{name}: not finite on {', '.join([f'{clean} clean images', *looks])}; they count as fooled")
        same = [other for other in plan.names[:place] if _twins(plan, other, name)]
        flags += [f"{name}: has the weights of {other}" for other in same]
    for success in result.surrogate_success:
        if success.goal == "robustness":
            told = "made with --goal robustness, which stops on fooled images; transfer is understated"
            flags.append(f"{success.surrogate}, {success.method}: {told}")
        if success.zero_gradients:
            flags.append(f"{success.surrogate}, {success.method}: zero gradients on {success.zero_gradients} images")
        if success.dead_gradients:
            flags.append(
                f"{success.surrogate}, {success.method}: no gradient at all on {success.dead_gradients} images"
            )
    for pair in matrix_result.headline(result.pairs):
        noise, cond = pair.noise, pair.cond
        if pair.white_box or noise is None or noise.rate is None or cond.rate is None:
            continue
        if noise.rate and noise.rate >= cond.rate:
            flags.append(f"{pair.surrogate} -> {pair.victim}: noise of the same norm fools as often")
    return flags
