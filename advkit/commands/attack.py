"""``advkit attack``: adversarial examples on one network, or on an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import typer

from advkit.commands import options, output
from advkit.commands.loading import model_warnings, names_of, open_all, pick_device
from advkit.files.atomic import require_writable
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.attacks.budget import Norm
    from advkit.attacks.dataset import AttackedBatch
    from advkit.attacks.params import AttackParams
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.reports.results import AttackResult


def attack(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Surrogates; several make an ensemble.")],
    data: options.DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="FILE.safetensors, or DIR/ for PNGs.")],
    method: Annotated[
        str, typer.Option(help="fgsm, pgd, mi, ni, di, ti, si composed with commas; noise; identity.")
    ] = "pgd",
    eps: options.Eps = "8/255",
    norm: options.NormOption = "linf",
    steps: options.Steps = 10,
    step_size: options.StepSize = None,
    loss: options.LossOption = None,
    target: options.Target = None,
    random_start: options.RandomStart = None,
    restarts: options.Restarts = 1,
    goal: Annotated[str, typer.Option(help="robustness stops on fooled images; transfer does not.")] = "robustness",
    precision: options.PrecisionOption = "float32",
    quantize: Annotated[bool, typer.Option("--quantize", help="Round to 8 bits inside the budget.")] = False,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 128,
    size: options.Size = None,
    device: options.Device = "auto",
    download: options.Download = False,
    force: options.Force = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Write adversarial images made on MODEL, and say how well they fool it."""
    clock = output.Clock()
    given = dict(locals())
    if out.suffix == "":
        require_writable(out.parent / f".{out.name}")
    options.check_outputs(given, *(["out"] if out.suffix else []), "report")
    if out.suffix not in ("", ".safetensors"):
        raise InputError(f"-o {out}: write FILE.safetensors, or a name without suffix for a folder of PNGs")
    quantize = quantize or out.suffix == ""  # PNG files have 8 bits
    params = options.attack_params(given, method, goal)
    names = names_of(models)
    device = pick_device(device)
    networks, images = open_all(models, data, limit=limit, seed=seed, size=size, download=download, device=device)
    from advkit.attacks.dataset import without_target
    from advkit.attacks.targets import parse_target

    aim = parse_target(target, images.class_names) if target is not None else None
    chosen = without_target(images, aim)
    if len(chosen) == 0:
        raise InputError(f"--target {target}: every image is of that class already; nothing to attack")
    tally = AttackSummary(names, params)
    line = output.Progress(quiet)
    with _writer(out, chosen, networks, params, quantize, force) as write:
        for done in _attacked(networks, chosen, params, aim, batch_size, device):
            write(done, *tally.add(done, networks, device, quantize))
            line.step("attack", tally.images, len(chosen))
        line.clear()
    result = tally.result(out, quantize, len(images) - len(chosen))
    return output.finish(
        "attack",
        result,
        table=lambda: _table(result, params),
        clock=clock,
        seed=seed,
        device=device,
        params=params.to_json() | {"target": target, "quantize": quantize, "limit": limit},
        inputs=[
            *[output.model_input(network, name) for network, name in zip(networks, names, strict=True)],
            output.data_input(images),
        ],
        flags=model_warnings(names, models, networks, images) + tally.flags(),
        report_file=report,
        as_json=as_json,
        quiet=quiet,
    )


def _attacked(
    networks: list[Network], images: ImageSet, params: AttackParams, aim: str | int | None, batch_size: int, device: str
) -> Iterator[AttackedBatch]:
    from advkit.attacks.dataset import attack_set
    from advkit.models.fuse import fuse_conv_bn

    gradient_models = [fuse_conv_bn(network) for network in networks]
    return attack_set(networks, gradient_models, images, params, aim, batch_size=batch_size, device=device)


class _Write(Protocol):
    def __call__(self, done: AttackedBatch, images: Tensor, prediction: Tensor, outcome: Tensor) -> None: ...


@contextlib.contextmanager
def _writer(
    out: Path, data: ImageSet, networks: list[Network], params: AttackParams, quantize: bool, force: bool
) -> Iterator[_Write]:
    """A function that writes one batch, to a safetensors file or a folder of PNGs."""
    from advkit.files import adversarial
    from advkit.files.image_folder import image_folder

    if out.suffix != ".safetensors":
        with image_folder(out, data.class_names, force=force) as save:

            def draw(done: AttackedBatch, images: Tensor, prediction: Tensor, outcome: Tensor) -> None:
                save(images, done.targets, done.indices)

            yield draw
        return
    if out.exists() and not force and not adversarial.is_adversarial(out):
        raise InputError(f"{out}: exists and is no adversarial set; --force replaces it")
    metadata = {
        "class_names": list(data.class_names),
        "data": {"ref": data.ref, "split": data.split, "fingerprint": data.fingerprint},
        "surrogates": [{"ref": network.spec.ref, "sha256": network.spec.sha256} for network in networks],
        "attack": params.to_json(),
    }
    with adversarial.stream(out, len(data), data.size, quantized=quantize, metadata=metadata) as rows:

        def write(done: AttackedBatch, images: Tensor, prediction: Tensor, outcome: Tensor) -> None:
            rows.append(
                {
                    "images": images,
                    "labels": done.targets,
                    "index": done.indices,
                    "target": done.classes,
                    "prediction": prediction,
                    "outcome": outcome,
                }
            )

        yield write


class AttackSummary:
    """Counts over the batches of one attack."""

    def __init__(self, names: list[str], params: AttackParams) -> None:
        self._names, self._params = names, params
        self.images = self._forwards = self._backwards = self._zero = self._dead = 0
        self._seconds = 0.0
        self._sums = {"linf": 0.0, "l2": 0.0}
        self._most = {"linf": 0.0, "l2": 0.0}
        self._counts = [dict.fromkeys(("right", "still", "fooled", "fooled_8bit"), 0) for _ in names]
        self._ensemble = [0, 0]
        self._suspicions: list[str] = []
        self._levels = True  # whether 8 bits can hold the budget

    def add(
        self, done: AttackedBatch, networks: list[Network], device: str, quantize: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Judge one batch; returns the images as they are written, the ensemble's predictions and the outcomes."""
        import torch

        from advkit.attacks.dataset import CLEAN_WRONG, FOOLED, ROBUST, is_success
        from advkit.attacks.sanity_checks import sanity_checks
        from advkit.models.prediction import predict

        eight = self._eight_bit(done, quantize)
        written = eight.float() / 255.0 if quantize and eight is not None else done.adversarial
        if self.images == 0:
            self._suspicions = [
                f"{name}: {flag}"
                for name, network in zip(self._names, networks, strict=True)
                for flag in sanity_checks(network, done.clean[:32].to(device))
            ]
        targeted = self._params.targeted
        for network, counts in zip(networks, self._counts, strict=True):
            correct = predict([network], done.clean.to(device)).cpu() == done.targets
            after = predict([network], written.to(device)).cpu()
            hit = is_success(after, done.classes, targeted)
            counts["right"] += int(correct.sum())
            counts["still"] += int((after == done.targets).sum())
            counts["fooled"] += int((hit & correct).sum())
            if eight is not None:
                rounded = predict([network], (eight.float() / 255.0).to(device)).cpu()
                counts["fooled_8bit"] += int((is_success(rounded, done.classes, targeted) & correct).sum())
        correct = predict(networks, done.clean.to(device)).cpu() == done.targets
        prediction = predict(networks, written.to(device)).cpu()
        fooled = is_success(prediction, done.classes, targeted)
        self._ensemble[0] += int((fooled & correct).sum())
        self._ensemble[1] += int(correct.sum())
        self._count(done, written)
        outcome = torch.where(correct, torch.where(fooled, FOOLED, ROBUST), CLEAN_WRONG).to(torch.uint8)
        return (eight if quantize and eight is not None else written), prediction, outcome

    def _eight_bit(self, done: AttackedBatch, quantize: bool) -> Tensor | None:
        from advkit.attacks.budget import quantize as rounded

        try:
            return rounded(done.adversarial, done.clean, self._params.eps, self._params.norm) if self._levels else None
        except InputError:
            if quantize:
                raise
            self._levels = False
            return None

    def _count(self, done: AttackedBatch, written: Tensor) -> None:
        from advkit.attacks.budget import flat_norm

        self.images += len(done.targets)
        self._forwards += done.batch.forwards
        self._backwards += done.batch.backwards
        self._zero += int(done.batch.zero_gradients.sum())
        self._dead += int(done.batch.dead.sum())
        self._seconds += done.seconds
        norms: tuple[Norm, ...] = ("linf", "l2")
        for norm in norms:
            sizes = flat_norm(written - done.clean, norm)
            self._sums[norm] += float(sizes.double().sum())
            self._most[norm] = max(self._most[norm], float(sizes.max()))

    def flags(self) -> list[str]:
        """Reasons for suspicion."""
        flags = list(self._suspicions)
        if self._zero:
            flags.append(
                f"zero gradients of the {self._params.loss} loss on {self._zero} images: margin loss used there"
            )
        if self._dead:
            flags.append(f"no gradient of any loss on {self._dead} images: masked gradients, or a dead network")
        return flags

    def result(self, out: Path, quantize: bool, excluded: int) -> AttackResult:
        """The whole run."""
        from advkit.reports.results import AttackResult, Norms, SurrogateResult

        form: Literal["safetensors-float32", "safetensors-uint8", "png"]
        form = "png" if out.suffix != ".safetensors" else "safetensors-uint8" if quantize else "safetensors-float32"
        return AttackResult(
            output=str(out),
            output_form=form,
            images=self.images,
            excluded=excluded,
            surrogates=[
                SurrogateResult(
                    model=name,
                    clean_accuracy=output.rate(counts["right"], self.images),
                    adversarial_accuracy=output.rate(counts["still"], self.images),
                    success=output.rate(counts["fooled"], counts["right"]),
                    success_8bit=output.rate(counts["fooled_8bit"], counts["right"]) if self._levels else None,
                )
                for name, counts in zip(self._names, self._counts, strict=True)
            ],
            ensemble_success=output.rate(*self._ensemble),
            norms=Norms(
                linf_mean=self._sums["linf"] / self.images,
                linf_max=self._most["linf"],
                l2_mean=self._sums["l2"] / self.images,
                l2_max=self._most["l2"],
            ),
            forwards_per_image=self._forwards / self.images,
            backwards_per_image=self._backwards / self.images,
            zero_gradients=self._zero,
            dead_gradients=self._dead,
            attack_seconds=round(self._seconds, 3),
        )


def _table(result: AttackResult, params: AttackParams) -> list[str]:
    lines = [
        f"{params.method.name}, {output.budget(params.norm, params.eps)}, {result.images} images -> {result.output}"
    ]
    for found in result.surrogates:
        lines.append(found.model)
        lines.append(f"  clean accuracy        {output.percent(found.clean_accuracy)}")
        lines.append(f"  adversarial accuracy  {output.percent(found.adversarial_accuracy)}")
        lines.append(f"  success               {output.percent(found.success)}")
        if found.success_8bit is not None:
            lines.append(f"  success in 8 bits     {output.percent(found.success_8bit)}")
    if len(result.surrogates) > 1:
        lines.append(f"ensemble success        {output.percent(result.ensemble_success)}")
    lines.append(
        f"norms reached         Linf {result.norms.linf_max:.5f} at most, L2 {result.norms.l2_mean:.4f} on average"
    )
    passes = f"{result.forwards_per_image:.1f} forward, {result.backwards_per_image:.1f} backward"
    lines.append(f"passes an image       {passes}")
    return lines
