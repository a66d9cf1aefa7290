"""What one detector gains over another: difference of mAP@.5 on the same images, with a paired bootstrap over them.

python paired_gain.py PLAIN ADVERSARIAL OUT.json DATA...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from advkit.adaptation.comparison import difference, evaluate_network
from advkit.data import reference as data_reference
from advkit.metrics.paired_tests import Paired
from advkit.models import reference as model_reference


def main(plain: str, adversarial: str, out: str, *refs: str) -> None:
    """Write a record for each of DATA, and print it."""
    networks = [model_reference.load(ref) for ref in (plain, adversarial)]
    records = {}
    for ref in refs:
        images = data_reference.load(ref)
        before, after = (evaluate_network(name, net, images) for name, net in zip("pa", networks, strict=True))
        found = difference(after, before)
        assert not isinstance(found, Paired), f"{ref}: classifiers have adapt --compare"
        records[ref] = {"gain": found.map50, "interval": list(found.map50_interval), "images": len(images)}
        low, high = found.map50_interval
        print(f"{ref}: {100 * found.map50:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]", flush=True)
    Path(out).write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
