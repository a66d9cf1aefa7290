"""How long ``advkit --help`` takes, and what every command costs beyond ``import torch``.

    python tests/benchmarks/startup.py [--rounds 11]

``--help`` is timed by the clock. Commands run on a few digits, interleaved with the bare imports; their seconds are of
the processor (user and system), which a busy machine disturbs less, and the median of the differences is reported.
What matplotlib takes to draw a plain figure, and ``torch.optim`` to import torch's compiler, is shown apart. Attacks
take one step, for their steps are work.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import ADVKIT, cost, environment, small_checkpoint

HELP, OWN = 0.2, 0.5  # seconds allowed
TORCH = "import torch"
DRAWING = f"""{TORCH}, matplotlib.figure
figure = matplotlib.figure.Figure(dpi=300)
figure.add_subplot().text(0, 0, "text")
figure.savefig("drawn.png")
"""
OPTIMISER = f"{TORCH}; torch.optim.SGD([torch.zeros(1)])"
DIGITS = "--data digits --limit 8 -q"
COMMANDS = {
    f"evaluate r0.safetensors {DIGITS}": TORCH,
    f"attack r0.safetensors {DIGITS} --steps 1 -o a.safetensors": TORCH,
    f"transfer-matrix r0.safetensors r1.safetensors {DIGITS} --steps 1": TORCH,
    f"transfer-matrix r0.safetensors r1.safetensors {DIGITS} --steps 1 --figure m.png": DRAWING,
    f"visualize attention r0.safetensors {DIGITS} --count 1 --figure v.png": DRAWING,
    "train --init r0.safetensors --epochs 0 -q --force -o t.safetensors": TORCH,
    f"train --arch advkit/cnn {DIGITS} --epochs 1 --batch-size 4 --force -o u.safetensors": OPTIMISER,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        show_help(rounds, Path(folder))
        show_commands(rounds, Path(folder))


def show_help(rounds: int, folder: Path) -> None:
    """Median time by the clock, and whether torch comes along."""
    command = [*ADVKIT, "--help"]
    cost(command, folder)  # the first round reads files
    wall = statistics.median(cost(command, folder).wall for _ in range(rounds))
    code = "import sys; from advkit.commands.app import run; run(['--help']); sys.exit('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, env=environment(), check=False)
    verdict = "kept" if wall <= HELP and found.returncode == 0 else "MISSED"
    print(
        f"advkit --help: {1000 * wall:.0f} ms of {1000 * HELP:.0f}, torch imported: {bool(found.returncode)}; {verdict}"
    )


def show_commands(rounds: int, folder: Path) -> None:
    """Median of each command's processor seconds beyond its baselines', all taken in the same round."""
    for seed in (0, 1):
        small_checkpoint(folder, seed)
    beyond: dict[str, list[tuple[float, float]]] = {command: [] for command in COMMANDS}
    for number in range(rounds + 1):
        bare = {code: cost([sys.executable, "-c", code], folder).cpu for code in (TORCH, DRAWING, OPTIMISER)}
        for command, libraries in COMMANDS.items():
            cpu = cost([*ADVKIT, *command.split()], folder).cpu
            if number:  # the first round reads files
                beyond[command].append((cpu - bare[libraries], bare[libraries] - bare[TORCH]))
    print("seconds beyond `import torch`: advkit's own, and its other libraries'")
    for command, found in beyond.items():
        own, libraries = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{own:5.2f}  {'kept' if own <= OWN else 'MISSED':6} {libraries:5.2f}  {command}")


if __name__ == "__main__":
    main()
