"""What adversarial training in the source domain gains on many styles, against how far away they are.

    python gains.py DISTANCES.json OUT.json EPS=PLAIN.npz,ADVERSARIAL.npz...

DISTANCES.json holds KID from the source to each style, as run.sh writes it; every pair of files of styles.py is one
training seed at one EPS. Intervals are a bootstrap over seeds, styles, and images within styles, all drawn anew; a
style that is drawn twice has its images drawn twice. What varies with the seeds is widened by n / (n - 1), as few are
drawn.

The primary EPS has the best robust mAP on the source's held-out images, of those whose clean mAP there is within 5
points of that without adversarial examples; it is told by the reports of the trainings, X.json beside X-art.npz.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from advkit.metrics.average_precision import MatchedDetections, weighted_ap

RESAMPLES = 2000
LEAST_IMAGES = 15  # of a style that counts
MOST_LOST = 0.05  # of the clean mAP@.5 on the source, by what may be the primary eps
SHIFTS = ("near", "middle", "far")


def main(distances: str, out: str, *pairs: str) -> None:
    """Write gains of every EPS, draw them beside it as OUT.png, and print a table."""
    kid = {style: found["kid"] for style, found in json.loads(Path(distances).read_text()).items()}
    by_eps: dict[str, list[tuple[Path, Path]]] = {}
    for pair in pairs:
        eps, _, files = pair.partition("=")
        plain, _, hardened = files.partition(",")
        by_eps.setdefault(eps, []).append((Path(plain), Path(hardened)))
    primary = primary_eps({eps: [tuple(map(held_out, pair)) for pair in files] for eps, files in by_eps.items()})
    gains = {eps: gains_by_style(files, kid) for eps, files in by_eps.items()}
    result = {"eps": gains, "kid": kid, "primary_eps": primary}
    Path(out).write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    draw(str(Path(out).with_suffix(".png")), gains, primary)
    print(f"primary eps: {primary or 'none: all cost the source more than 5 points'}")
    for eps, found in result["eps"].items():
        print(f"eps {eps}: {found['seeds']} seeds, {found['styles']} styles")
        for name in ("all", *SHIFTS):
            print(f"  {name:7} {with_interval(found['gain'][name])}")
        print(f"  Spearman {with_interval(found['spearman'], 1)}")
        print(f"  right sign, one style left out: {found['sign_rate']:.2f}; commoner sign {found['commoner_sign']:.2f}")


def draw(path: str, gains: dict[str, dict[str, Any]], primary: str | None) -> None:
    """Mean gains of the styles over their distance, of each EPS, the primary one filled."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(0, color="0.6", linewidth=0.8)
    for number, (eps, found) in enumerate(gains.items()):
        styles = found["per_style"].values()
        axes.plot(
            [one["kid"] for one in styles],
            [100 * one["gain"] for one in styles],
            "osD^v"[number % 5],
            color=f"C{number}",
            markersize=4,
            fillstyle="full" if eps == primary else "none",
            label=f"{eps}/255",
        )
    axes.set_xlabel("KID of the style to the photographs")
    axes.set_ylabel("gain in AP@.5, points")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def held_out(detections: Path) -> tuple[float, float]:
    """Clean and robust mAP@.5 on the source's held-out images, of the last epoch of the training of ``detections``."""
    report = detections.with_name(f"{detections.name.removesuffix('-art.npz')}.json")
    last = json.loads(report.read_text())["result"]["epochs"][-1]
    return last["validation_map50"], last["robust_map50"]


def primary_eps(held: dict[str, list[Any]]) -> str | None:
    """The eps that the source alone chooses; None where every one costs too much.

    Args:
        held: for each eps and seed, (clean, robust) of the plain detector and of the adversarially trained one.
    """
    means = {eps: np.mean(seeds, axis=0) for eps, seeds in held.items()}
    allowed = {eps: float(mean[1][1]) for eps, mean in means.items() if mean[0][0] - mean[1][0] <= MOST_LOST}
    return max(allowed, key=lambda eps: allowed[eps]) if allowed else None


def with_interval(found: dict[str, Any], factor: float = 100.0) -> str:
    """``+1.2 [-0.3, 2.6]``."""
    low, high = found["interval"]
    return f"{factor * found['value']:+.2f} [{factor * low:+.2f}, {factor * high:+.2f}]"


def gains_by_style(files: list[tuple[Path, Path]], kid: dict[str, float]) -> dict[str, Any]:
    """Gain in AP@.5 of each style, of the thirds by distance, and how both hang together."""
    opened = [(np.load(plain), np.load(hardened)) for plain, hardened in files]
    style_of = opened[0][0]["style"]
    names = sorted(style for style in kid if (style_of == style).sum() >= LEAST_IMAGES)
    distance = np.array([kid[name] for name in names])
    rng = np.random.default_rng(0)
    gains = np.empty((len(opened), len(names), RESAMPLES + 1))  # the first is of the images themselves
    for column, name in enumerate(names):
        images = np.flatnonzero(style_of == name)
        drawn = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), RESAMPLES)
        weights = np.concatenate([np.ones((1, len(images)), dtype=int), drawn]).astype(np.int32)
        for row, (plain, hardened) in enumerate(opened):
            gains[row, column] = ap(hardened, images, weights) - ap(plain, images, weights)
    point = gains[:, :, 0].mean(0)
    resampled = np.empty((RESAMPLES, 1 + len(SHIFTS)))
    ranks = np.empty(RESAMPLES)
    widening = np.sqrt(len(opened) / max(1, len(opened) - 1))
    for k in range(RESAMPLES):
        seeds = rng.integers(0, len(opened), len(opened))
        styles = rng.integers(0, len(names), len(names))
        images = rng.integers(1, RESAMPLES + 1, len(names))
        of_seed = gains[:, styles, images]
        centre = of_seed.mean(0)
        found = centre + widening * (of_seed[seeds].mean(0) - centre)
        resampled[k] = means(found, distance[styles])
        ranks[k] = rank_correlation(distance[styles], found)
    return {
        "seeds": len(opened),
        "styles": len(names),
        "gain": {
            name: interval(float(value), resampled[:, column])
            for column, (name, value) in enumerate(zip(("all", *SHIFTS), means(point, distance), strict=True))
        },
        "spearman": interval(rank_correlation(distance, point), ranks),
        "sign_rate": sign_rate(distance, point),
        "commoner_sign": float(max((point > 0).mean(), (point < 0).mean())),
        "per_style": {
            name: {"gain": float(point[k]), "kid": float(distance[k]), "seeds": gains[:, k, 0].tolist()}
            for k, name in enumerate(names)
        },
    }


def ap(found: Any, images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) AP@.5 over ``images``, counted as ``weights`` (R, images) say."""
    place = np.full(len(found["objects"]), -1)
    place[images] = np.arange(len(images))
    here = place[found["image"]] >= 0
    count = int(here.sum())
    none = np.zeros(count, dtype=bool)
    matched = MatchedDetections(
        images=len(images),
        image=place[found["image"][here]],
        label=np.zeros(count, dtype=np.int64),
        score=found["score"][here].astype(np.float32),
        hit=found["hit"][here, None],
        neutral=found["neutral"][here, None],
        voc_hit=none,
        voc_neutral=none,
        objects=found["objects"][images, None].astype(np.int64),
    )
    return weighted_ap(matched, weights)[:, 0, 0]


def means(gain: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(4,) mean gain of all styles, and of the nearest, middle and farthest third."""
    thirds = np.array_split(np.argsort(distance, kind="stable"), len(SHIFTS))
    return np.array([np.nanmean(gain), *(np.nanmean(gain[third]) for third in thirds)])


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; 0 where all of one are the same."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def interval(value: float, resampled: np.ndarray) -> dict[str, Any]:
    """95 %, by percentiles."""
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return {"value": value, "interval": [float(low), float(high)]}


def sign_rate(distance: np.ndarray, gain: np.ndarray) -> float:
    """Share of styles whose gain has the sign that a line through the others foretells."""
    right = []
    for k in range(len(gain)):
        others = np.arange(len(gain)) != k
        slope, at_zero = np.polyfit(distance[others], gain[others], 1)
        right.append((slope * distance[k] + at_zero > 0) == (gain[k] > 0))
    return float(np.mean(right))


if __name__ == "__main__":
    main(*sys.argv[1:])
