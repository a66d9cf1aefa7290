"""Mean average precision with intervals, against faster-coco-eval called directly, which gives none.

    python tests/benchmarks/mean_average_precision.py [--rounds 5] [--images 1000] [--classes 20] [--threads 1]

About 5 objects and 100 predictions an image; 1,000 resamples of the images, at all 10 overlaps. The two run
interleaved; seconds are medians over the rounds, the ratio the median of the rounds' ratios. Ratio and verdict are of
the processor's seconds; those of the clock beside them show how much of it a busy machine took.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from faster_coco_eval import COCO, COCOeval_faster, __version__
from torch import Tensor

from advkit.metrics.mean_average_precision import MeanAveragePrecision

SECONDS = 5.0  # of one core, allowed for 1,000 images
OBJECTS, PREDICTIONS, BATCH = 5, 100, 50


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ways = evaluations(options.images, options.classes)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(options.rounds + 1):
        for name, run in ways.items():
            began = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round warms up
                times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    print(f"{options.images} images, {options.classes} classes, {options.threads} threads, torch {torch.__version__}")
    for name, found in times.items():
        wall, cpu = (statistics.median(one[place] for one in found) for place in (0, 1))
        ratio = statistics.median(a[1] / b[1] for a, b in zip(found, times["faster-coco-eval"], strict=True))
        print(f"{name:28} {wall:6.2f} s  {cpu:6.2f} s of the processor  {ratio:5.2f} x faster-coco-eval {__version__}")
    cpu = statistics.median(one[1] for one in times["advkit"]) * 1000 / options.images
    print(f"1,000 images: {cpu:.1f} s; {SECONDS:.0f} s {'kept' if cpu <= SECONDS else 'MISSED'}")


def evaluations(images: int, classes: int) -> dict[str, Callable[[], object]]:
    """The same detections, evaluated in each way."""
    predictions, targets = detections(images, classes)
    return {
        "faster-coco-eval": lambda: direct(predictions, targets, classes),
        "advkit": lambda: measured(predictions, targets, classes, 1000),
        "advkit, without intervals": lambda: measured(predictions, targets, classes, 1),
    }


def detections(images: int, classes: int) -> tuple[Tensor, Tensor]:
    """(N, 100, 6) and (N, 5, 6): each object is found about twenty times, more or less well; a third is mislabelled."""
    chance = torch.Generator().manual_seed(0)
    corner = 200 * torch.rand(images, OBJECTS, 2, generator=chance)
    side = 20 + 80 * torch.rand(images, OBJECTS, 2, generator=chance)
    label = torch.randint(0, classes, (images, OBJECTS, 1), generator=chance).float()
    targets = torch.cat([corner, corner + side, label, torch.zeros(images, OBJECTS, 1)], 2)
    source = torch.randint(0, OBJECTS, (images, PREDICTIONS), generator=chance)
    found = targets.gather(1, source[..., None].expand(-1, -1, 6)).clone()
    found[..., :4] += 6 * torch.randn(images, PREDICTIONS, 4, generator=chance)
    other = torch.randint(0, classes, (images, PREDICTIONS), generator=chance).float()
    found[..., 5] = torch.where(torch.rand(images, PREDICTIONS, generator=chance) < 1 / 3, other, found[..., 4])
    found[..., 4] = torch.rand(images, PREDICTIONS, generator=chance)
    return found, targets


def measured(predictions: Tensor, targets: Tensor, classes: int, resamples: int) -> object:
    metric = MeanAveragePrecision(classes, resamples=resamples)
    for start in range(0, len(targets), BATCH):
        metric.update(predictions[start : start + BATCH], targets[start : start + BATCH])
    return metric.compute()


def direct(predictions: Tensor, targets: Tensor, classes: int) -> object:
    truth = COCO(
        {
            "images": [{"id": number} for number in range(len(targets))],
            "categories": [{"id": number} for number in range(classes)],
            "annotations": [
                {"id": place + 1, "image_id": place // OBJECTS, "category_id": int(label), "iscrowd": 0}
                | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
                for place, (x0, y0, x1, y1, label, _) in enumerate(targets.flatten(0, 1).tolist())
            ],
        }
    )
    results = [
        {"image_id": place // PREDICTIONS, "category_id": int(label), "bbox": [x0, y0, x1 - x0, y1 - y0]}
        | {"score": score}
        for place, (x0, y0, x1, y1, score, label) in enumerate(predictions.flatten(0, 1).tolist())
    ]
    evaluation = COCOeval_faster(truth, truth.loadRes(results), iouType="bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval


if __name__ == "__main__":
    main()
