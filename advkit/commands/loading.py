"""From references to images and networks that fit each other, each opened once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.commands.checks import Statistics, statistics
from advkit.commands.run_options import TestOptions
from advkit.files.errors import InputError
from advkit.models.config import is_nameless

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.native_size import NativeSize
    from advkit.models.network import Network
    from advkit.reports.envelope import Input

_NAME = re.compile(r"[^\W_][\w .'-]*")  # what may stand before the = of NAME=MODEL


def pick_device(name: str) -> str:
    """``auto`` is a GPU where there is one.

    Raises:
        InputError: a device that is not there.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise InputError(f"--device {name}: not available here; use auto or cpu")
    return name


def device_of_rank(name: str, world: int) -> str:
    """The device of this process, one of ``world`` under torchrun: of several GPUs that of its number on this machine.

    Its share of the processor's threads is set too.

    Raises:
        InputError: a device that is not there, or fewer GPUs than processes.
    """
    if world == 1:
        return pick_device(name)
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // world))
    device = pick_device(name)
    if device != "cuda":
        return device
    place, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if place >= count:
        raise InputError(f"more processes here than GPUs ({count}); start {count}, or say --device cpu, or cuda:N")
    return f"cuda:{place}"


def pick_precision(wanted: str, device: str) -> Any:
    """``auto`` is bfloat16 where it was measured to pay: GPUs and processors that compute in it.

    Raises:
        InputError: a device that is not there.
    """
    import torch

    if wanted != "auto":
        return wanted
    if pick_device(device).startswith("cuda"):
        pays = torch.cuda.is_bf16_supported()
    else:
        pays = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if pays else "float32"


def split_name(ref: str) -> tuple[str | None, str]:
    """``NAME=REF`` as (NAME, REF); the name is None without one, and in a file's name that has a ``=``."""
    name, equals, rest = ref.partition("=")
    if equals and rest and _NAME.fullmatch(name) and not Path(ref).exists():
        return name, rest
    return None, ref


def names_of(refs: Sequence[str]) -> list[str]:
    """A distinct short name for each of ``[NAME=]REF``.

    Raises:
        InputError: two models of one name.
    """
    names = []
    for ref in refs:
        name, rest = split_name(ref)
        short = rest.rpartition("/")[2].removesuffix(".safetensors")
        names.append(name or short)
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two models are called {name}; tell them apart with NAME=MODEL")
    return names


@dataclass(frozen=True)
class Opened:
    """What a command looks at: models, and images that all of them take.

    Attributes:
        names: of the models, distinct.
        refs: of the models, without names.
        networks: on the device; one whose own size differs from the images' resizes them inside.
        images: as ``--data`` and ``--limit`` say.
        device: where the networks are.
    """

    names: list[str]
    refs: list[str]
    networks: list[Network]
    images: ImageSet
    device: str

    def inputs(self) -> list[Input]:
        """Models and data as the report tells them."""
        from advkit.reports.envelope import data_input, model_input

        models = [model_input(network, name) for name, network in zip(self.names, self.networks, strict=True)]
        return [*models, data_input(self.images)]

    def sanity_flags(self, images: ImageSet, most: int) -> list[str]:
        """Reasons to suspect a model, found on the first of ``images``, ``most`` of them or 32."""
        from advkit.attacks.sanity_checks import sanity_checks

        pixels = images.batch(slice(min(32, most)))[0].to(self.device)
        return [
            f"{name}: {flag}"
            for name, network in zip(self.names, self.networks, strict=True)
            for flag in sanity_checks(network, pixels)
        ]

    def warnings(self) -> list[str]:
        """Flags: how models were loaded; fresh weights, whose rates say nothing; other class names; images resized."""
        from advkit.reports.envelope import data_flags

        flags = data_flags(self.images)
        for name, ref, network in zip(self.names, self.refs, self.networks, strict=True):
            flags += model_notes(network, name)
            flags += [f"{name}: {note}" for note in _on_pictures(network, self.images)]
            if is_fresh(ref):
                flags.append(f"{name}: fresh weights, never trained; @pretrained or @FILE gives it others")
            pairs = list(zip(network.spec.labels, self.images.class_names, strict=False))
            strange = [f"{ours!r} for {theirs!r}" for ours, theirs in pairs if ours != theirs]
            if strange and not is_nameless(network.spec.labels) and not is_nameless(self.images.class_names):
                flags.append(f"{name}: calls {len(strange)} classes otherwise than the data, such as {strange[0]}")
            if (own := _own_size(network)) is not None:
                _, height, width = self.images.size
                flags.append(f"{name}: resizes the images of {height}x{width} to its own {own[0]}x{own[1]}")
        return flags


def model_notes(network: Network, name: str | None = None) -> list[str]:
    """What the loading of ``network`` had to say, as flags of a report under its name or its reference."""
    return [f"{name or network.spec.ref}: {note}" for note in network.spec.notes]


def open_all(config: TestOptions, models: Sequence[str], device: str) -> Opened:
    """Test images first, then each network at its own size, checked against each other.

    Pictures in folders come in the largest size that a model is for, or that of ``--size``, prepared as the models say
    if those that say it agree; arrays come in their own. ``--mean`` and ``--std`` go to models that bring none.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    from advkit.data import reference as data_reference
    from advkit.models.native_size import common_crop, native_size
    from advkit.parallel import process_group
    from advkit.tasks.sampling import limited
    from advkit.tasks.task import task_of

    said = statistics(config.mean, config.std)
    names, refs = names_of(models), [split_name(ref)[1] for ref in models]
    natives = [native_size(ref) for ref in refs]
    known = [native for native in natives if native is not None]
    if said != (None, None) and len(known) == len(refs) and all(native.normalised for native in known):
        raise InputError("--mean, --std: every MODEL here brings its own; leave them out")
    _check_channels(refs, [None if native is None else native.channels for native in natives])
    crop = common_crop(known)
    largest = max(((native.height, native.width) for native in known), default=None, key=lambda size: size[0] * size[1])
    with process_group.first_rank_first() if config.download else contextlib.nullcontext():
        images = data_reference.load(
            config.data,
            size=(config.size, config.size) if config.size else largest,
            channels=max((native.channels for native in known if native.channels), default=None),
            crop_pct=crop.crop_pct,
            interpolation=crop.interpolation,
            download=config.download,
            fix_boxes=config.fix_boxes,
        )
    scaled = config.size is None and images.size[1:] == largest  # pictures, which have no size of their own
    networks = [
        load_for(ref, images, device, native=native, own_size=scaled, statistics=said)
        for ref, native in zip(refs, natives, strict=True)
    ]
    for ref, network in zip(refs[1:], networks[1:], strict=True):
        _check_names(ref, network.spec.labels, refs[0], networks[0].spec.labels)
    images = limited(task_of(networks), images, config.limit, config.seed)
    return Opened(names, refs, networks, images, device)


def _check_channels(refs: Sequence[str], channels: Sequence[int | None]) -> None:
    """Raise InputError unless all models that say it take images of one number of channels."""
    first = {count: ref for ref, count in zip(reversed(refs), reversed(channels), strict=True) if count}
    if len(first) > 1:
        told = " and ".join(f"{ref} takes {'grey' if count == 1 else 'colour'} images" for count, ref in first.items())
        raise InputError(f"{told}; give models that take the same")


def load_for(
    ref: str,
    data: ImageSet,
    device: str,
    *,
    native: NativeSize | None = None,
    own_size: bool = False,
    statistics: Statistics = (None, None),
) -> Network:
    """The network ``ref`` for the images of ``data``, which it resizes to the size that it is for.

    Args:
        ref: the MODEL.
        data: the images.
        device: where to put it.
        native: what images it is for.
        own_size: take its own size even where it could be built for that of the images.
        statistics: mean and std, if it brings none.

    Raises:
        InputError: it can't be opened, takes other channels, or has another number of classes.
    """
    from advkit.models import reference as model_reference
    from advkit.models.heads import select_classes
    from advkit.models.one_logit import as_two_classes
    from advkit.models.resized import resized

    channels, height, width = size = data.size
    if native is not None and (native.fixed or own_size or native.scales):
        size = (channels, native.height, native.width)
    mean, std = (None, None) if native is not None and native.normalised else statistics
    count = data.num_classes if is_fresh(ref) else None
    network = model_reference.load(ref, num_classes=count, input_size=size, mean=mean, std=std, device=device)
    check_task(ref, network, data)
    if network.spec.num_classes == 1 and data.num_classes == 2:
        network = as_two_classes(network)
    names, known = data.class_names, network.spec.labels
    if names != known and found_by_name(names, known):
        network = select_classes(network, names)
    classes = network.spec.num_classes
    # Data without class names may lack the last classes by chance; named classes must agree.
    if classes != data.num_classes and not (is_nameless(data.class_names) and classes > data.num_classes):
        raise InputError(
            f"{ref}: has {classes} classes, {data.ref} has {data.num_classes}; use data that it was made for"
        )
    _check_names(ref, network.spec.labels, data.ref, data.class_names)
    return network if native is not None and native.scales else resized(network, height, width)


def check_task(ref: str, network: Network, data: ImageSet) -> None:
    """Raise InputError when ``network`` and ``data`` are for different tasks."""
    task = network.spec.task
    if task != data.task:
        raise InputError(f"{ref}: is for {task}, {data.ref} is data for {data.task}; give models and data of one task")


def _own_size(network: Network) -> tuple[int, int] | None:
    from advkit.models.resized import Resized

    return network.net.size if isinstance(network.net, Resized) else None


def _on_pictures(network: Network, images: ImageSet) -> list[str]:
    """What is to be said where pictures are not prepared as ``network`` wants them."""
    crop, resize = network.spec.crop, images.resize
    if crop is None or resize is None:
        return []
    if (crop.crop_pct, crop.interpolation) != (resize.crop_pct, resize.interpolation):
        own = f"crop_pct {crop.crop_pct:g} and {crop.interpolation} interpolation"
        return [f"is for pictures prepared with {own}; the models differ in that, so none is cut and all are bilinear"]
    return list(crop.notes)


def is_fresh(ref: str) -> bool:
    return "@" not in ref and ref.partition("/")[0] in ("advkit", "timm", "torchvision") and not Path(ref).exists()


def found_by_name(names: Sequence[str], known: Sequence[str]) -> bool:
    """Whether ``names`` are more than numbers and all of them are among ``known``, in whatever order."""
    return set(names) <= set(known) and not is_nameless(tuple(names))


def _check_names(ref: str, labels: Sequence[str], other: str, theirs: Sequence[str]) -> None:
    """Raise InputError when a name stands at different numbers here and there: no rate would mean anything."""
    places = {name: k for k, name in enumerate(theirs)}
    for place, name in enumerate(labels):
        if places.get(name, place) != place:
            raise InputError(
                f"{ref}: its class {place} is {name!r}, which is class {places[name]} of {other}; "
                "bring the classes into one order"
            )
