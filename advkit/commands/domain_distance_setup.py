"""From references to the features of each domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from advkit.commands.checks import statistics
from advkit.commands.domain_distance_config import PIXELS, DistanceConfig, check_ready
from advkit.commands.loading import is_fresh, model_notes, pick_device, split_name
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from advkit.data.decoding import Resize
    from advkit.data.images import ImageSet
    from advkit.distance.features import FeatureTable
    from advkit.models.native_size import NativeSize
    from advkit.models.network import Network
    from advkit.reports.domain_distance import FeatureSource
    from advkit.reports.envelope import Input

_SIDE = 32  # of images that are compared pixel by pixel

ProgressCallback = Callable[[int, int], None]
Extractor = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class OpenedDomains:
    """The domains of a run.

    Attributes:
        names: distinct; the first is the source.
        tables: features of each.
        n: images of each in a draw.
        features: what they are.
        inputs: model and data as the report tells them.
        flags: what their readers had to say.
        device: where features were computed.
    """

    names: list[str]
    tables: list[FeatureTable]
    n: int
    features: FeatureSource
    inputs: list[Input]
    flags: list[str]
    device: str


def domain_names(refs: tuple[str, ...]) -> list[str]:
    """A distinct short name for each of ``[NAME=]DATA``.

    Raises:
        InputError: two domains of one name.
    """
    split = [split_name(ref) for ref in refs]
    names = [name or rest.rstrip("/").rpartition("/")[2] for name, rest in split]
    if len(set(names)) < len(names):  # the same name in two places
        names = [name or rest for name, rest in split]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two domains are called {name}; tell them apart with NAME=DATA")
    return names


def split_layer(text: str) -> tuple[str, str | None]:
    """``MODEL[:LAYER]`` as (MODEL, LAYER); the colon of ``FILE.py:FACTORY`` and ``advkit/genome:NAME`` is none."""
    ref, colon, layer = text.rpartition(":")
    if not colon or Path(text).exists() or ref.endswith(".py") or ref == "advkit/genome" or "/" in layer:
        return text, None
    if not ref or not layer:
        raise InputError(f"--features {text}: nothing {'after' if ref else 'before'} the colon; write MODEL:LAYER")
    return ref, layer


def open_domains(config: DistanceConfig, progress: ProgressCallback) -> OpenedDomains:
    """Features of every domain, computed or read.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    from advkit.distance.feature_files import is_feature_file

    names, refs = domain_names(config.data), [split_name(ref)[1] for ref in config.data]
    ready = [is_feature_file(Path(ref)) for ref in refs]
    if not any(ready):
        return _of_images(config, names, refs, progress)
    if not all(ready):
        image, file = refs[ready.index(False)], refs[ready.index(True)]
        raise InputError(f"{image}: {file} holds ready features and this does not; give all as images, or as features")
    check_ready(config)
    return _of_files(config, names, refs)


def _of_files(config: DistanceConfig, names: list[str], refs: list[str]) -> OpenedDomains:
    from advkit.distance.comparison import subsample_size
    from advkit.distance.feature_files import read_feature_file
    from advkit.reports.domain_distance import FeatureSource
    from advkit.reports.envelope import Input

    read = [read_feature_file(Path(ref)) for ref in refs]
    tables = [table for table, _ in read]
    for ref, table in zip(refs, tables, strict=True):
        if table.size != tables[0].size:
            raise InputError(
                f"{ref}: {table.size} features of each image, {refs[0]} has {tables[0].size}; use the same"
            )
    inputs = [
        Input(kind="data", ref=ref, sha256=sha256, name=name, images=table.count)
        for name, ref, (table, sha256) in zip(names, refs, read, strict=True)
    ]
    features = FeatureSource(
        kind="file",
        ref=None,
        sha256=None,
        layer=None,
        size=None,
        crop_pct=None,
        interpolation=None,
        channels=None,
        d=tables[0].size,
        dtype=str(tables[0].dtype),
    )
    n = subsample_size(refs, [table.count for table in tables], config.subsample)
    return OpenedDomains(names, tables, n, features, inputs, [], "cpu")


def _of_images(config: DistanceConfig, names: list[str], refs: list[str], progress: ProgressCallback) -> OpenedDomains:
    from advkit.data import reference as data_reference
    from advkit.distance.comparison import subsample_size
    from advkit.models.native_size import native_size
    from advkit.reports import envelope
    from advkit.reports.domain_distance import FeatureSource
    from advkit.tasks.sampling import limited
    from advkit.tasks.task import task_named

    model, layer = (None, None) if config.features == PIXELS else split_layer(config.features)
    native = None if model is None else native_size(model)
    resize = _resize(config, model, native)
    domains = []
    for ref in refs:
        data = data_reference.load(
            ref,
            size=resize.size,
            channels=1 if native is not None and native.channels == 1 else None,
            crop_pct=resize.crop_pct,
            interpolation=resize.interpolation,
            download=config.download,
            labelled=False,
        )
        domains.append(limited(task_named(data.task), data, config.limit, config.seed))
    n = subsample_size(refs, [len(data) for data in domains], config.subsample)
    channels = max(data.size[0] for data in domains)
    if native is not None and native.channels is not None:
        channels = native.channels
    device = pick_device(config.device)
    network = None if model is None else _network(config, model, native, (channels, *resize.size), device)
    extract, layer, flags = _extractor(network, model, layer)
    tables = _tables(config, domains, resize, channels, extract, device, progress)
    inputs = [] if network is None else [envelope.model_input(network)]
    for name, data in zip(names, domains, strict=True):
        inputs.append(envelope.data_input(data).model_copy(update={"name": name}))
        flags += [flag for flag in envelope.data_flags(data) if flag not in flags]
        if data.size[0] < channels:
            flags.append(f"{data.ref}: grey images, repeated to three channels")
    features = FeatureSource(
        kind=PIXELS if network is None else "model",
        ref=model,
        sha256=None if network is None else network.spec.sha256,
        layer=layer,
        size=resize.size,
        crop_pct=resize.crop_pct,
        interpolation=resize.interpolation,
        channels=channels,
        d=tables[0].size,
        dtype=str(tables[0].dtype),
    )
    return OpenedDomains(names, tables, n, features, inputs, flags, device)


def _resize(config: DistanceConfig, model: str | None, native: NativeSize | None) -> Resize:
    """The one way in which images of all domains get to one size."""
    from advkit.data.decoding import Resize
    from advkit.models import reference
    from advkit.models.reference import FACTORY

    if model is None:
        side = config.size or _SIDE
        return Resize((side, side))
    if native is None and config.size is None:
        if FACTORY.fullmatch(model) is None:
            reference.load(model)  # says what is wrong with it
        raise InputError(f"--features {model}: does not say what images it is for; give --size")
    size = (native.height, native.width) if native is not None else (0, 0)
    crop = None if native is None else native.crop
    size = (config.size, config.size) if config.size else size
    return Resize(size) if crop is None else Resize(size, crop.crop_pct, crop.interpolation)


def _network(
    config: DistanceConfig, model: str, native: NativeSize | None, size: tuple[int, int, int], device: str
) -> Network:
    """The network, which takes images of ``size``."""
    from advkit.models import reference
    from advkit.models.resized import resized

    mean, std = statistics(config.mean, config.std)
    if native is not None and native.normalised:
        config.refuse(("mean", "std"), f"{model} brings its own; leave it out")
    own = size
    if native is not None and (native.fixed or native.scales):
        own = (size[0], native.height, native.width)
    network = reference.load(model, input_size=own, mean=mean, std=std, device=device, seed=config.seed)
    return network if native is not None and native.scales else resized(network, size[1], size[2])


def _extractor(network: Network | None, model: str | None, layer: str | None) -> tuple[Extractor, str, list[str]]:
    """What makes features of images, what that is called, and what there is to be said of it."""
    from advkit.models.features import PixelFeatures, layer_features

    if network is None or model is None:
        pixels = PixelFeatures()
        return pixels, pixels.layer, []
    found = layer_features(network, layer)
    flags = model_notes(network)
    if is_fresh(model):
        flags.append(f"{model}: fresh weights, never trained; @pretrained or @FILE gives it others")
    return found, found.layer, flags


def _tables(
    config: DistanceConfig,
    domains: list[ImageSet],
    resize: Resize,
    channels: int,
    extract: Extractor,
    device: str,
    progress: ProgressCallback,
) -> list[FeatureTable]:
    from advkit.data.prepared import prepared_batches
    from advkit.distance.features import content_hash, write_features

    total = sum(map(len, domains))

    def batches(data: ImageSet) -> Iterator[tuple[list[int], Tensor]]:
        for batch in prepared_batches(data, resize, channels, config.batch_size):
            keys = [
                content_hash(str(list(one.shape)).encode(), one.contiguous().numpy().tobytes())
                for one in batch.originals
            ]
            yield keys, extract(batch.images.to(device))

    tables: list[FeatureTable] = []
    done = 0
    for data in domains:
        name = f"{data.ref}#{data.split}" if data.split else data.ref
        tables.append(write_features(name, batches(data), partial(_report_progress, progress, done, total)))
        done += len(data)
    return tables


def _report_progress(progress: ProgressCallback, before: int, total: int, done: int) -> None:
    progress(before + done, total)
