"""A transfer matrix for people: a table of 80 columns, and a heat map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advkit.reports.rates import Rate, budget, percent
from advkit.reports.transfer_matrix import Pair, TransferMatrixResult, headline
from advkit.reports.transfer_precisions import precision_grid

_MEANING = {
    "cond": "fooled, of the images that both get right and that fool the surrogate",
    "both": "fooled, of the images that both get right",
    "raw": "wrong, of all images",
    "same": "fooled into the surrogate's class, of the images that fool the surrogate",
}
_NAME = 14  # characters of a model's name


def table(result: TransferMatrixResult, rate: str, data: str) -> list[str]:
    """Lines of at most 80 characters (names allowing)."""
    lines = [f"{result.images} images, {subtitle(result)}, {data}, {' | '.join(result.methods) or 'no method'}", ""]
    lines += [f"{'clean accuracy':16}{_short(a.model)}  {percent(a.accuracy)}" for a in result.clean]
    if result.detection is not None:
        lines += ["", *precision_grid(result.detection)]
    lines += ["", f"T_{rate}, %: {_MEANING[rate]}"]
    lines += _grid(result, rate)
    lines += ["  * white box, made on this very network: how often it is fooled", ""]
    lines += _details(result.pairs)
    if result.gradients is not None and len(result.models) > 1:
        lines += ["", f"cosine of input gradients, mean (mean absolute; chance {result.gradients.chance:.4f})"]
        lines += _cosines(result)
    name = "McNemar p" if len(result.comparisons) == 1 else "Holm p"  # of McNemar's test, corrected for their number
    for found in result.comparisons:
        lines += ["", f"{found.surrogate} -> {found.a} against {found.b}, {found.method}, {found.total} common images:"]
        if found.difference is None or found.interval is None:
            lines.append("  no common image")
            continue
        low, high = found.interval
        lines.append(
            f"  {100 * found.difference:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], "
            f"only {found.a} {found.only_a}, only {found.b} {found.only_b}, {name} = {found.p_value_holm:.2g}"
        )
    return lines


def _short(name: str, width: int = _NAME) -> str:
    return (name if len(name) <= width else f"{name[: width - 1]}…").ljust(width)


def _cell(value: float | None, mark: str = " ") -> str:
    return f"{'-' if value is None else f'{100 * value:.1f}':>8}{mark}"


def _grid(result: TransferMatrixResult, rate: str) -> list[str]:
    best = {(pair.surrogate, pair.victim): pair for pair in headline(result.pairs)}
    width = max(9, *(min(len(name), _NAME) + 2 for name in result.models))
    lines = [
        f"{'  made on':{_NAME + 2}}" + "".join(_short(name, width - 2).strip().rjust(width) for name in result.models)
    ]
    for surrogate in result.surrogates:
        line = f"  {_short(surrogate)}"
        for victim in result.models:
            pair = best[surrogate, victim]
            value = _shown(pair, rate).rate
            line += _cell(value, "*" if pair.white_box else " ").rjust(width)
        lines.append(line.rstrip())
    return lines


def _shown(pair: Pair, rate: str) -> Rate:
    """What a cell shows: how often the victim is fooled, where it is a network that the images were made on."""
    found: Rate = pair.both if pair.white_box else getattr(pair, rate)
    return found


def _details(pairs: Sequence[Pair]) -> list[str]:
    """All rates of each pair, a line for each method."""
    lines: list[str] = []
    heading = ""
    for pair in pairs:
        if pair.white_box:
            continue
        if not lines:
            columns = "".join(f"{name:>7}" for name in ("noise", "net", "flip", "both", "raw", "same"))
            lines.append(f"%{'T_cond':>13}{'of':>22}{columns}")
        if heading != (heading := f"{pair.surrogate} -> {pair.victim}"):
            lines.append(heading)
        lines += _rates(pair)
    if lines:
        lines.append("  noise and flip: under noise of the same norm, and the negated perturbation")
        lines.append("  net: T_cond less noise, in points")
    return lines


def _rates(pair: Pair) -> list[str]:
    def short(value: float | None, sign: str = "") -> str:
        return f"{'-' if value is None else f'{100 * value:{sign}.1f}':>7}"

    cond, noise = pair.cond.rate, None if pair.noise is None else pair.noise.rate
    low, high = pair.cond.interval or (None, None)
    interval = "" if low is None or high is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    net = None if cond is None or noise is None else cond - noise
    others = (pair.flipped, pair.both, pair.raw, pair.same)
    cells = [short(noise), short(net, "+"), *(short(None if value is None else value.rate) for value in others)]
    values = f"{short(cond)[2:]}{interval:15}{f'{pair.cond.successes}/{pair.cond.total}':>9}{''.join(cells)}"
    name = f"  {pair.method}"
    return [f"{name:9}{values}"] if len(name) < 9 else [name, f"{'':9}{values}"]


def _cosines(result: TransferMatrixResult) -> list[str]:
    assert result.gradients is not None
    lines = []
    names = result.gradients.models
    for i, a in enumerate(names):
        for j in range(i + 1, len(names)):
            signed, absolute = result.gradients.cosine[i][j], result.gradients.absolute_cosine[i][j]
            told = "-" if signed is None else f"{signed:+.4f}  ({absolute:.4f})"
            counted = result.gradients.images[i][j]
            told += "" if counted == result.images else f"  on {counted} images that have a gradient"
            lines.append(f"  {_short(a)}  {_short(names[j])}  {told}")
    return lines


def draw(path: Path, result: TransferMatrixResult, rate: str) -> None:
    """The headline rates as a heat map; white-box cells show the attack's success."""
    from advkit.figures import heatmap

    best = {(pair.surrogate, pair.victim): pair for pair in headline(result.pairs)}
    grid = [[_shown(best[surrogate, victim], rate) for victim in result.models] for surrogate in result.surrogates]
    methods: Sequence[str] = result.methods
    heatmap.draw(
        path,
        [[value.rate for value in row] for row in grid],
        result.surrogates,
        result.models,
        title=f"{' ∪ '.join(methods)}, {subtitle(result)}, {result.images} images",
        label=f"T_{rate}",
        counts=[[f"{value.successes}/{value.total}" for value in row] for row in grid],
        white_box={
            (i, j)
            for i, surrogate in enumerate(result.surrogates)
            for j, victim in enumerate(result.models)
            if best[surrogate, victim].white_box
        },
    )


def subtitle(result: TransferMatrixResult) -> str:
    """The budgets of all rows, those of ready-made sets too."""
    budgets: dict[str, list[str]] = {}
    for row in result.surrogate_success:
        rows = budgets.setdefault(budget(row.norm, row.eps), [])
        rows += [row.surrogate] if row.surrogate not in rows else []
    if len(budgets) == 1:
        return next(iter(budgets))
    return ", ".join(f"{' '.join(rows)}: {budget}" for budget, rows in budgets.items())
