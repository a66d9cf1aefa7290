"""Whether memory is flat in the number of images: peaks of the executable on N and on 4 N of them.

    python tests/benchmarks/memory.py [--images 2000]

Random colour images of 64x64 (48 KiB each as floats) in a safetensors file, and a network that is nearly nothing; the
peak is the resident set, as the kernel counted it. Files in this form and folders are read a few images at a time;
npz, MNIST and pickled CIFAR lie in memory as the bytes that they are.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path

from processes import ADVKIT, cost

SIZE = (3, 64, 64)
SHARE = 0.1  # of the larger set, as floats, that a peak may grow by
FACTORY = """
from torch import nn

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 10))
"""
# In a process of its own: a child's peak begins with the memory of the process that starts it, which must stay small.
WRITE = f"""
import sys, torch
from pathlib import Path
from advkit.files.tensors import write_tensors
pixels = torch.randint(0, 256, (int(sys.argv[2]), *{SIZE}), dtype=torch.uint8)
write_tensors(Path(sys.argv[1]), {{"images": pixels, "labels": torch.arange(len(pixels)) % 10}}, "{{}}")
"""
MODELS = "A=net.py:net B=net.py:net"
COMMANDS = (
    "evaluate net.py:net --data {data} -q",
    "attack net.py:net --data {data} --steps 2 -o a.safetensors --force -q",
    "attack net.py:net --data {data} --steps 2 --quantize -o q.safetensors --force -q",
    f"transfer-matrix {MODELS} --data {{data}} --steps 2 -q",
    "domain-distance A={data} B={data} --subsample 100 --repeats 2 -q",
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=2000)
    count = parser.parse_args().images
    room = SHARE * 4 * count * math.prod(SIZE) * 4 / 2**20
    print(f"MiB at most for {count} and {4 * count} images; {room:.0f} more are allowed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "net.py").write_text(FACTORY)
        for images in (count, 4 * count):
            cost([sys.executable, "-c", WRITE, f"{images}.safetensors", str(images)], folder)
        for command in COMMANDS:
            few, many = (
                cost([*ADVKIT, *command.format(data=f"{images}.safetensors").split()], folder).peak
                for images in (count, 4 * count)
            )
            print(f"{few:5.0f} {many:5.0f}  {'flat ' if many - few <= room else 'GROWS'}  {command}")


if __name__ == "__main__":
    main()
