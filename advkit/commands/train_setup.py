"""From the options of ``train`` to a network to start from and the settings of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advkit.commands import options
from advkit.commands.loading import pick_precision
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.training.params import MisalignParams, TrainParams


def open_network(given: dict[str, Any], images: ImageSet | None, train_part: Any, device: str) -> Network:
    """The network to train: a fresh one, weights to start from, or foreign weights to pack."""
    from advkit.data.statistics import mean_and_std
    from advkit.models import build, reference

    mean, std = options.floats("mean", given["mean"]), options.floats("std", given["std"])
    arch, has_weights = given["arch"], "@" in given["arch"] or ".py:" in given["arch"]
    if given["init"] and arch and has_weights:
        raise InputError("--arch with weights and --init both say where to start; give one")
    known: dict[str, Any] = {}
    if images is not None:
        known = {"num_classes": images.num_classes, "input_size": images.size, "labels": images.class_names}
    if given["init"] and not arch:
        network = reference.load(given["init"], **known, mean=mean, std=std, device=device, seed=given["seed"])
    elif has_weights:
        network = reference.load(arch, **known, mean=mean, std=std, device=device, seed=given["seed"])
    else:
        if images is None:
            raise InputError("--epochs 0 packs weights: give --arch ARCH@FILE, or --data for a fresh network")
        other = None
        if given["init"]:  # weights go with the normalisation that they were trained under
            other = reference.load(given["init"], **known, device=device)
            mean, std = mean or other.spec.mean, std or other.spec.std
            if (mean, std) != (other.spec.mean, other.spec.std):
                raise InputError(f"--init {given['init']}: has its own mean and std; leave --mean and --std out")
        elif mean is None or std is None:
            found = mean_and_std(images, train_part)
            mean, std = mean or found[0], std or found[1]
        network = build.create(
            arch,
            num_classes=images.num_classes,
            input_size=images.size,
            mean=mean,
            std=std,
            labels=images.class_names,
            seed=given["seed"],
        ).to(device)
        if other is not None:
            _start_from(network, other, given["init"])
    return network


def _start_from(network: Network, other: Network, ref: str) -> None:
    own, theirs = network.net.state_dict(), other.net.state_dict()
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in theirs.items()}:
        raise InputError(
            f"--init {ref}: is {other.spec.architecture}, whose weights don't fit {network.spec.architecture}"
        )
    network.net.load_state_dict(theirs)


def train_params(given: dict[str, Any], images: ImageSet | None, device: str) -> TrainParams:
    """The settings that the options ask for."""
    from advkit.training.augment import KINDS
    from advkit.training.params import TrainParams

    if given["augment"] == "auto":
        large = images is not None and min(images.size[1:]) >= 24
        kinds: tuple[str, ...] = ("crop", "flip") if large and images and images.size[0] == 3 else ()
    else:
        kinds = () if given["augment"] == "none" else options.choices("augment", given["augment"], KINDS)
    lr = given["lr"] if given["lr"] is not None else {"sgd": 0.1, "adamw": 0.002}[given["optimizer"]]
    return TrainParams(
        epochs=given["epochs"],
        batch_size=given["batch_size"],
        optimizer=given["optimizer"],
        lr=lr,
        weight_decay=given["weight_decay"],
        momentum=given["momentum"],
        schedule=given["schedule"],
        label_smoothing=given["label_smoothing"],
        clip=given["clip"],
        ema=given["ema"],
        augment=frozenset(kinds),
        precision=pick_precision(given["precision"], device),
        seed=given["seed"],
        misalign=_misalign(given),
    )


def _misalign(given: dict[str, Any]) -> MisalignParams | None:
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.training.params import PENALTY_POINTS, MisalignParams

    if not given["misalign_from"]:
        return None
    eps = parse_eps(given["misalign_eps"], "misalign-eps")
    check_eps(eps, "linf", given["misalign_eps"])
    return MisalignParams(
        weight=given["misalign_weight"],
        penalty=given["misalign_penalty"],
        at=options.choices("misalign-at", given["misalign_at"], PENALTY_POINTS),
        eps=eps,
        steps=given["misalign_steps"],
        smoothness=given["smoothness_weight"],
        warm_up=given["misalign_warm_up"],
    )
