"""What one network gains over another: difference of mAP@.5, or of accuracy, on the same images, with its interval.

Images are resized and classes found by name as ``evaluate`` does it.

python paired_gain.py PLAIN ADVERSARIAL OUT.json DATA...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from advkit.adaptation.comparison import ComparedNetwork, difference, evaluate_network
from advkit.commands.loading import load_for
from advkit.data import reference as data_reference
from advkit.metrics.paired_tests import Paired
from advkit.models.native_size import native_size


def main(plain: str, adversarial: str, out: str, *refs: str) -> None:
    """Write a record for each of DATA, and print it."""
    records = {}
    for ref in refs:
        images = data_reference.load(ref, channels=3)
        networks = [load_for(model, images, "cpu", native=native_size(model)) for model in (plain, adversarial)]
        before, after = (evaluate_network(name, net, images) for name, net in zip("pa", networks, strict=True))
        found = difference(after, before)
        gain, interval = (
            (found.difference, found.interval) if isinstance(found, Paired) else (found.map50, found.map50_interval)
        )
        assert gain is not None, f"{ref}: nothing to find"
        assert interval is not None
        low, high = interval
        records[ref] = {
            "gain": gain,
            "interval": [low, high],
            "images": len(images),
            "plain": score(before),
            "adversarial": score(after),
        }
        print(f"{ref}: {100 * gain:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", flush=True)
    Path(out).write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")


def score(found: ComparedNetwork) -> float:
    """mAP@.5 of a detector, accuracy of a classifier."""
    return float(found.correct.mean() if found.figures is None else found.figures["map50"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
