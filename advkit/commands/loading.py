"""From references to networks and images that fit each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.models.network import Network

PRECISIONS = ("auto", "float32", "bfloat16")


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
    """``NAME=REF`` as (NAME, REF); the name is None without one."""
    name, equals, rest = ref.partition("=")
    if equals and name and rest and all(letter.isalnum() or letter in "-_.' " for letter in name):
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


def model_warnings(names: Sequence[str], refs: Sequence[str], networks: Sequence[Network], data: ImageSet) -> list[str]:
    """Flags: models whose weights are fresh, so that rates say nothing, or whose classes are called otherwise."""
    flags = []
    for name, ref, network in zip(names, refs, networks, strict=True):
        if _is_fresh(split_name(ref)[1]):
            flags.append(f"{name}: fresh weights, never trained; @pretrained or @FILE gives it others")
        pairs = list(zip(network.spec.labels, data.class_names, strict=False))
        strange = [f"{ours!r} for {theirs!r}" for ours, theirs in pairs if ours != theirs]
        if strange and not _nameless(network.spec.labels) and not _nameless(data.class_names):
            flags.append(f"{name}: calls {len(strange)} classes otherwise than the data, such as {strange[0]}")
    return flags


def _is_fresh(ref: str) -> bool:
    return "@" not in ref and ref.partition("/")[0] in ("advkit", "timm", "torchvision") and not Path(ref).exists()


def open_all(
    refs: Sequence[str],
    data_ref: str,
    *,
    limit: int | None,
    seed: int,
    size: int | None,
    download: bool,
    device: str,
) -> tuple[list[Network], ImageSet]:
    """Networks and test images, checked against each other.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    from advkit.data import reference as data_reference
    from advkit.models import reference as model_reference

    plain = [split_name(ref)[1] for ref in refs]
    first = next((ref for ref in plain if ".py:" not in ref), plain[0])  # a Python file does not say what it takes
    channels, height, width = model_reference.load(first).spec.input_size
    data = data_reference.load(
        data_ref,
        limit=limit,
        seed=seed,
        size=(size, size) if size else (height, width),
        channels=channels,
        download=download,
    )
    networks = [load_for(ref, data, device) for ref in plain]
    for ref, network in zip(plain[1:], networks[1:], strict=True):
        _check_names(ref, network.spec.labels, plain[0], networks[0].spec.labels)
    return networks, data


def load_for(ref: str, data: ImageSet, device: str, seed: int = 0) -> Network:
    """The network ``ref`` for the images of ``data``.

    Raises:
        InputError: it can't be opened, takes another image size, or has another number of classes.
    """
    from advkit.models import reference as model_reference

    network = model_reference.load(
        ref,
        num_classes=data.num_classes if _is_fresh(ref) else None,
        input_size=data.size,
        device=device,
        seed=seed,
    )
    classes = network.spec.num_classes
    # Data without class names may lack the last classes by chance; named classes must agree.
    if classes != data.num_classes and not (_nameless(data.class_names) and classes > data.num_classes):
        raise InputError(
            f"{ref}: has {classes} classes, {data.ref} has {data.num_classes}; use data that it was made for"
        )
    _check_names(ref, network.spec.labels, data.ref, data.class_names)
    return network


def _check_names(ref: str, labels: Sequence[str], other: str, theirs: Sequence[str]) -> None:
    """Raise InputError when a name stands at different numbers here and there: no rate would mean anything."""
    places = {name: k for k, name in enumerate(theirs)}
    for place, name in enumerate(labels):
        if places.get(name, place) != place:
            raise InputError(
                f"{ref}: its class {place} is {name!r}, which is class {places[name]} of {other}; "
                "bring the classes into one order"
            )


def _nameless(class_names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers."""
    return all(name == str(k) for k, name in enumerate(class_names))
