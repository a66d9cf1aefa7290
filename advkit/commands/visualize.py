"""``advkit visualize``: pictures of what networks attend to."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advkit.commands import options, output
from advkit.commands.loading import model_warnings, names_of, open_all, pick_device
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.images import ImageSet
    from advkit.figures.attention import MapAgreement, Panel
    from advkit.models.network import Network
    from advkit.reports.results import VisualizeResult

app = typer.Typer(help="Draw what networks attend to.", rich_markup_mode=None)

RULES = ("first", "all-correct", "disagree", "all-wrong")
MAPS = ("saliency", "grad-cam")
MOST = 50  # images of one figure that still show anything
_FIGURES = (".png", ".svg", ".pdf")


@app.callback()
def visualize() -> None:
    """Draw what networks attend to."""


@app.command("attention", short_help="Draw saliency and Grad-CAM of the same images.")
def attention(
    models: Annotated[list[str], typer.Argument(metavar="[NAME=]MODEL...", help="Networks to look through.")],
    data: options.DataOption,
    figure: Annotated[Path, typer.Option(metavar="FILE", help="The picture: .png, .svg or .pdf.")],
    index: Annotated[
        list[int] | None, typer.Option(min=0, metavar="I", help="This image of the split; repeatable.")
    ] = None,
    pick: Annotated[str, typer.Option(help="first, all-correct, disagree or all-wrong.")] = "first",
    count: Annotated[int, typer.Option(min=1, max=MOST, help="Images that --pick takes.")] = 4,
    maps: Annotated[str, typer.Option("--map", help="saliency, grad-cam or both, with a comma.")] = "saliency,grad-cam",
    samples: Annotated[int, typer.Option(min=1, help="Noisy copies that saliency averages.")] = 16,
    sigma: Annotated[float, typer.Option(help="Their noise, in pixel units of [0, 1].")] = 0.1,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 128,
    size: options.Size = None,
    device: options.Device = "auto",
    download: options.Download = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """The same images through every MODEL: smoothed input gradients and Grad-CAM on one colour scale."""
    clock = output.Clock()
    options.check_outputs(dict(locals()), "figure", "report")
    if figure.suffix not in _FIGURES:
        raise InputError(f"--figure {figure}: the name ends in {', '.join(_FIGURES)}")
    options.choice("pick", pick, RULES)
    options.check_range("sigma", sigma, 0.0, 1.0)
    kinds = options.choices("map", maps, MAPS)
    names = names_of(models)
    device = pick_device(device)
    networks, images = open_all(models, data, limit=limit, seed=seed, size=size, download=download, device=device)
    chosen = _chosen(networks, images, index, pick, count, batch_size, device)
    panels = [
        _panel(name, network, chosen, kinds, samples, sigma, seed, device)
        for name, network in zip(names, networks, strict=True)
    ]
    from advkit.figures import attention as drawing

    pixels = chosen.batch(slice(None))[0]
    texts = [f"{chosen.class_names[label]} ({place})" for label, place in _labelled(chosen)]
    note = f"Explained: the true class's logit. SmoothGrad: {samples} samples, sigma {sigma:g}."
    pairs = drawing.draw(figure, pixels, texts, panels, footnote=note)
    result = _result(figure, kinds, names, networks, chosen, pairs, pixels, device)
    return output.finish(
        "visualize",
        result,
        table=lambda: _table(result),
        clock=clock,
        seed=seed,
        device=device,
        params={
            "index": index,
            "pick": pick,
            "count": count,
            "map": list(kinds),
            "samples": samples,
            "sigma": sigma,
            "limit": limit,
        },
        inputs=[
            *[output.model_input(network, name) for network, name in zip(networks, names, strict=True)],
            output.data_input(images),
        ],
        flags=model_warnings(names, models, networks, images),
        report_file=report,
        as_json=as_json,
        quiet=quiet,
    )


def _labelled(chosen: ImageSet) -> list[tuple[int, int]]:
    return list(zip(chosen.targets.tolist(), chosen.indices.tolist(), strict=True))


def _chosen(
    networks: list[Network],
    images: ImageSet,
    index: list[int] | None,
    pick: str,
    count: int,
    batch_size: int,
    device: str,
) -> ImageSet:
    """The images to draw: those named, or the first ``count`` that the rule takes."""
    import torch

    if index:
        if len(index) > MOST:
            raise InputError(f"--index: {len(index)} images; one figure shows {MOST} at most")
        place = {number: position for position, number in enumerate(images.indices.tolist())}
        missing = [number for number in index if number not in place]
        if missing:
            known = f"the {len(images)} images taken of {images.ref}"
            raise InputError(f"--index {missing[0]}: not among {known}, whose indices are 0 to {max(place)}")
        return images.subset(torch.tensor([place[number] for number in index]))
    found: list[int] = []
    for start in range(0, len(images), batch_size):
        if pick == "first":
            found = list(range(min(count, len(images))))
        else:
            rows = _fits(networks, images, slice(start, start + batch_size), pick, device)
            found += (rows.nonzero().squeeze(1) + start).tolist()
        if len(found) >= count:
            break
    if not found:
        raise InputError(f"--pick {pick}: no image of {images.ref} fits; choose another rule or --index")
    return images.subset(torch.tensor(found[:count]))


def _fits(networks: list[Network], images: ImageSet, part: slice, pick: str, device: str) -> Tensor:
    """(N,) bool: all models right, all wrong, or some of each."""
    from advkit.models.prediction import predict_all

    pixels, labels = images.batch(part)
    correct = predict_all(networks, pixels.to(device)) == labels
    if pick == "all-correct":
        return correct.all(0)
    return ~correct.any(0) if pick == "all-wrong" else correct.any(0) & ~correct.all(0)


def _panel(
    name: str,
    network: Network,
    chosen: ImageSet,
    kinds: tuple[str, ...],
    samples: int,
    sigma: float,
    seed: int,
    device: str,
) -> Panel:
    from advkit.figures import saliency
    from advkit.figures.attention import Panel
    from advkit.models.feature_layers import last_spatial
    from advkit.models.prediction import predict

    pixels, labels = (value.to(device) for value in chosen.batch(slice(None)))
    maps: dict[str, Tensor] = {}
    if "saliency" in kinds:
        indices = chosen.indices.to(device)
        maps["saliency"] = saliency.smoothgrad(
            network, pixels, labels, indices=indices, samples=samples, sigma=sigma, seed=seed
        )
    if "grad-cam" in kinds:
        layer = last_spatial(network, chosen.size)
        maps["grad-cam"] = saliency.grad_cam(network, pixels, labels, layer=layer)
    predicted = predict([network], pixels).cpu()
    return Panel(
        name,
        [chosen.class_names[k] if 0 <= k < len(chosen.class_names) else str(k) for k in predicted.tolist()],
        (predicted == chosen.targets).tolist(),
        maps,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: list[float]) -> float | None:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else None


def _result(
    figure: Path,
    kinds: tuple[str, ...],
    names: list[str],
    networks: list[Network],
    chosen: ImageSet,
    pairs: list[MapAgreement],
    pixels: Tensor,
    device: str,
) -> VisualizeResult:
    from advkit.models.prediction import predict_all
    from advkit.reports.results import Agreement, AttendedImage, VisualizeResult

    predictions = predict_all(networks, pixels.to(device))

    def at(pair: MapAgreement, k: int) -> Agreement:
        return Agreement(
            a=names[pair.first],
            b=names[pair.second],
            cosine=_number(pair.cosine[k]),
            rank_correlation=_number(pair.rank_correlation[k]),
        )

    return VisualizeResult(
        figure=str(figure),
        maps=list(kinds),
        images=[
            AttendedImage(
                index=place,
                label=label,
                predictions={name: int(predictions[m, k]) for m, name in enumerate(names)},
                agreement={kind: [at(pair, k) for pair in pairs if pair.kind == kind] for kind in kinds},
            )
            for k, (label, place) in enumerate(_labelled(chosen))
        ],
        mean_agreement={
            kind: [
                Agreement(
                    a=names[pair.first],
                    b=names[pair.second],
                    cosine=_mean(pair.cosine),
                    rank_correlation=_mean(pair.rank_correlation),
                )
                for pair in pairs
                if pair.kind == kind
            ]
            for kind in kinds
        },
    )


def _table(result: VisualizeResult) -> list[str]:
    lines = [f"{result.figure}: {len(result.images)} images, {' and '.join(result.maps)}", ""]
    for kind, pairs in result.mean_agreement.items():
        for pair in pairs:
            cosine, rank = ("-" if v is None else f"{v:+.3f}" for v in (pair.cosine, pair.rank_correlation))
            lines.append(f"{kind:9} {pair.a} and {pair.b}: cosine {cosine}, rank correlation {rank}")
    return lines
