"""The attack engine against torchattacks and foolbox: the same CIFAR-10 images, network, budget and steps.

    python tests/benchmarks/engine.py RESNET20.th ROBUST.safetensors CIFAR_DIR [--rounds 5] [--only NAME ...]
        [--also advkit/resnet32@RESNET32.th advkit/resnet44@RESNET44.th]

RESNET20 is a normally trained state dict, ROBUST a checkpoint of adv-pretrain; row `matrix` has those of --also too.
The commands of advkit run whole: opening files, the attack, every verdict and control, writing images and report; the
libraries' loops take images that are in memory already, attack them in batches of 128 and judge the result. All ways of
a row run in this process, interleaved; imports are not counted. Ratios are medians over rounds of the same round's
times.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import foolbox
import torch
import torchattacks
from torch import Tensor, nn

from advkit.commands.app import run as advkit
from advkit.data import reference as data_reference
from advkit.models.reference import load
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited

EPS, BATCH = 8 / 255, 128
Way = Callable[[], float]  # runs, and returns what came out of it


class Bench:
    """Networks and images, and what to run on them."""

    def __init__(self, weights: str, robust: str, data: str, folder: Path) -> None:
        self.plain, self.robust, self.data, self.folder = f"advkit/resnet20@{weights}", robust, data, folder

    def images(self, count: int) -> tuple[Tensor, Tensor]:
        """Those that ``--limit`` takes, and their classes."""
        return limited(CLASSIFICATION, data_reference.load(self.data), count, 0).batch(slice(None))

    def command(self, model: str, count: int, *options: str) -> float:
        """``advkit attack``; the robust accuracy in its report."""
        report = self.folder / "report.json"
        call = ["attack", model, "--data", self.data, "--limit", str(count), "--eps", "8/255", *options, "-q"]
        with contextlib.redirect_stdout(io.StringIO()):
            status = advkit([*call, "-o", str(self.folder / "a.safetensors"), "--report", str(report)])
        assert status == 0, call
        return float(json.loads(report.read_text())["result"]["surrogates"][0]["adversarial_accuracy"]["rate"])

    def library(self, model: str, count: int, make: Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]) -> Way:
        """A loop over batches; the robust accuracy."""
        network = load(model, num_classes=10, input_size=(3, 32, 32))
        images, labels = self.images(count)
        attack = make(network)

        def run() -> float:
            right = 0
            for start in range(0, count, BATCH):
                x, y = images[start : start + BATCH], labels[start : start + BATCH]
                found = attack(x, y)
                with torch.no_grad():
                    right += int((network(found).argmax(1) == y).sum())
            return right / count

        return run

    def pgd(self, model: str, count: int) -> dict[str, Way]:
        """PGD-50 for robust accuracy."""

        def theirs(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            return torchattacks.PGD(network, eps=EPS, alpha=2.5 * EPS / 50, steps=50, random_start=True)  # type: ignore[no-any-return]

        def foolboxes(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            wrapped = foolbox.PyTorchModel(network, bounds=(0, 1))
            attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / 50, steps=50)
            return lambda x, y: attack(wrapped, x, y, epsilons=EPS)[1]  # type: ignore[no-any-return]

        ours = ["--method", "pgd", "--steps", "50"]
        return {
            "torchattacks": self.library(model, count, theirs),
            "foolbox": self.library(model, count, foolboxes),
            "advkit": lambda: self.command(model, count, *ours),
            "advkit, auto": lambda: self.command(model, count, *ours, "--precision", "auto"),
        }

    def crafting(self, count: int) -> dict[str, Way]:
        """MI-DI with 10 steps, none left out: for transfer."""

        def theirs(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            return torchattacks.DIFGSM(network, eps=EPS, alpha=EPS / 10, steps=10, decay=1.0)  # type: ignore[no-any-return]

        ours = ["--method", "mi,di", "--steps", "10", "--goal", "transfer"]
        return {
            "torchattacks": self.library(self.plain, count, theirs),
            "advkit": lambda: self.command(self.plain, count, *ours),
            "advkit, auto": lambda: self.command(self.plain, count, *ours, "--precision", "auto"),
        }

    def matrix(self, count: int, also: Sequence[str]) -> dict[str, Way]:
        """PGD and MI-DI with 10 steps on each of several networks, judged on all of them."""
        models = [self.plain, self.robust, *also]
        images, labels = self.images(count)
        networks = [load(model, num_classes=10, input_size=(3, 32, 32)) for model in models]

        def theirs() -> float:
            right = cells = 0
            for network in networks:
                for attack in (
                    torchattacks.PGD(network, eps=EPS, alpha=0.25 * EPS, steps=10, random_start=True),
                    torchattacks.DIFGSM(network, eps=EPS, alpha=EPS / 10, steps=10, decay=1.0),
                ):
                    for start in range(0, count, BATCH):
                        x, y = images[start : start + BATCH], labels[start : start + BATCH]
                        found = attack(x, y)
                        with torch.no_grad():
                            for victim in networks:
                                right += int((victim(found).argmax(1) == y).sum())
                                cells += len(y)
            return right / cells

        def ours(*more: str) -> float:
            report = self.folder / "matrix.json"
            named = [f"m{k}={model}" for k, model in enumerate(models)]
            options = ["--data", self.data, "--limit", str(count), "--eps", "8/255", "--no-gradients", "-q", *more]
            methods = ["--method", "pgd", "--method", "mi,di", "--report", str(report)]
            with contextlib.redirect_stdout(io.StringIO()):
                assert advkit(["transfer-matrix", *named, *options, *methods]) == 0
            pairs = json.loads(report.read_text())["result"]["pairs"]
            kept = [1 - one["raw"]["rate"] for one in pairs if one["method"] in ("pgd", "mi,di")]
            return statistics.mean(kept)

        return {
            "torchattacks": theirs,
            "advkit": ours,
            "advkit, auto": lambda: ours("--precision", "auto"),
        }

    def autoattack(self, count: int) -> dict[str, Way]:
        """The standard four; torchattacks takes fewer steps unless it is told."""

        def theirs(network: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
            found = torchattacks.AutoAttack(network, eps=EPS, version="standard", n_classes=10)
            for (
                one
            ) in found._autoattack.attacks:  # which have 10 steps of the 100 that are standard, and another schedule
                if hasattr(one, "steps"):
                    one.steps = 100
                if hasattr(one, "rescale_schedule"):
                    one.rescale_schedule = False
            return found  # type: ignore[no-any-return]

        ours = ["--method", "autoattack"]
        return {
            "torchattacks": self.library(self.robust, count, theirs),
            "advkit": lambda: self.command(self.robust, count, *ours),
            "advkit, auto": lambda: self.command(self.robust, count, *ours, "--precision", "auto"),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", help="state dict of a CIFAR-10 ResNet-20")
    parser.add_argument("robust", help="adversarially trained checkpoint")
    parser.add_argument("data", help="CIFAR-10, binary or python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--autoattack-images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--also", nargs="*", default=[], help="further models, for the row matrix")
    parser.add_argument("--only", nargs="*", default=["pgd", "robust-pgd", "crafting", "matrix", "autoattack"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.threads} threads, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.weights, options.robust, f"{options.data}#test", Path(folder))
        rows = {
            "pgd": lambda: bench.pgd(bench.plain, options.images),
            "robust-pgd": lambda: bench.pgd(bench.robust, options.images),
            "crafting": lambda: bench.crafting(options.images),
            "matrix": lambda: bench.matrix(options.images, options.also),
            "autoattack": lambda: bench.autoattack(options.autoattack_images),
        }
        for name in options.only:
            show(name, rows[name](), options.rounds)


def show(name: str, ways: dict[str, Way], rounds: int) -> None:
    """Run all ways ``rounds`` times after each other, and print a line for each."""
    times: dict[str, list[float]] = {way: [] for way in ways}
    found: dict[str, float] = {}
    for _ in range(rounds):
        for way, run in ways.items():
            began = time.perf_counter()
            found[way] = run()
            times[way].append(time.perf_counter() - began)
    first: Sequence[float] = times[next(iter(times))]
    for way, took in times.items():
        faster = statistics.median(other / own for other, own in zip(first, took, strict=True))
        print(
            f"{name:12} {way:14} {statistics.median(took):8.2f} s  {faster:6.2f}x as fast  accuracy {found[way]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
