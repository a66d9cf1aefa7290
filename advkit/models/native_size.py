"""What images a MODEL is for, as far as its reference and its file's header tell without building it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advkit.files.errors import InputError
from advkit.files.tensors import METADATA_KEY, read_header
from advkit.models import build, infer, weights
from advkit.models.black_box import is_black_box
from advkit.models.config import Crop, check_size, said_crop
from advkit.models.detectors import build as detectors
from advkit.models.directory import read_directory
from advkit.models.match_names import match_names
from advkit.models.reference import FACTORY
from advkit.models.torch_file import is_torch_file


@dataclass(frozen=True)
class NativeSize:
    """The images that a model is for.

    Attributes:
        height, width: in pixels.
        channels: 1 or 3; None if it is built for whatever the data have.
        fixed: whether it was trained at just this size; other models are built for the size of the data.
        crop: how pictures of other sizes are prepared; None where the model doesn't say.
        normalised: whether it brings a mean and std of its own.
        task: what it is for.
    """

    height: int
    width: int
    channels: int | None
    fixed: bool = False
    crop: Crop | None = None
    normalised: bool = False
    task: str = "classification"

    @property
    def scales(self) -> bool:
        """Whether it takes images of any size and scales them to its own inside, as detectors do."""
        return self.task == "detection"


def common_crop(models: Sequence[NativeSize]) -> Crop:
    """How pictures are prepared for all of ``models`` at once, whatever their order.

    As those say that say it, if they agree; else by the shorter side, bilinear, with nothing cut from it.
    """
    said = {(model.crop.crop_pct, model.crop.interpolation) for model in models if model.crop is not None}
    return Crop(*said.pop()) if len(said) == 1 else Crop()


def native_size(ref: str) -> NativeSize | None:
    """What images the MODEL ``ref`` is for; None where only its code knows, or where it can't be opened.

    Raises:
        InputError: a damaged file or directory.
    """
    path, form = Path(ref), FACTORY.fullmatch(ref)
    if is_black_box(ref):
        return None
    if path.is_dir():
        _, config, _, file = read_directory(path)
        channels, height, width = config.input_size
        names = weights.read_weights(file).tensors if is_torch_file(file) else read_header(file)[0]
        return NativeSize(height, width, channels, infer.is_positional(names), config.crop, True)
    if path.is_file():
        return _of_checkpoint(path)
    if form is not None:
        return _of_checkpoint(Path(form["weights"])) if form["weights"] else None
    name, at, source = ref.partition("@")
    try:
        architecture, model_args = build.split(name)
        default = build.defaults(architecture)
    except InputError:
        return None  # opening it says what is wrong
    channels, height, width = default.input_size
    if detectors.is_detector(architecture) and (not at or source == "pretrained"):
        return NativeSize(height, width, channels, normalised=bool(at), task="detection")
    if not at:
        return NativeSize(height, width, 3 if architecture.startswith("torchvision/") else None)
    if source == "pretrained":
        fixed = infer.is_positional(infer.probe(architecture, default.input_size, model_args).state_dict())
        return NativeSize(height, width, channels, fixed, default.crop, True)
    file = Path(source)
    if found := _of_checkpoint(file):
        return found
    probe = infer.probe(architecture, default.input_size, model_args)
    tensors = match_names(ref, probe, weights.read_weights(file)).tensors
    trained = infer.infer_from_state_dict(probe, tensors, default)
    channels, height, width = trained.input_size
    return NativeSize(height, width, channels, infer.is_positional(tensors), task=build.task_name(architecture))


def _of_checkpoint(path: Path) -> NativeSize | None:
    """What an advkit checkpoint says, None for any other file."""
    try:
        meta = json.loads(read_header(path)[1].get(METADATA_KEY, ""))
        channels, height, width = (int(side) for side in meta["input_size"])
    except (InputError, ValueError, TypeError, KeyError, OverflowError):
        return None
    check_size(str(path), (channels, height, width))
    task = str(meta.get("task", "classification"))
    return NativeSize(height, width, channels, fixed=True, crop=said_crop(meta), normalised=True, task=task)
