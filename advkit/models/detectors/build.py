"""Name of a detector to module, and what torchvision says of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from advkit.files.errors import InputError
from advkit.models.config import ModelConfig, Size
from advkit.models.libraries import IMAGENET_MEAN, IMAGENET_STD, no_download

ADVKIT = ("tiny-ssd", "ssd", "fcos")
_TINY = (96, 320)  # sides of images that tiny-ssd is made for


def torchvision_detectors() -> Sequence[str]:
    """Every detector of boxes of the installed torchvision."""
    import torchvision

    detection = torchvision.models.detection
    return [
        name
        for name in torchvision.models.list_models(module=detection)
        if name.startswith(("ssd", "fasterrcnn", "retinanet", "fcos"))
    ]


def build_advkit(name: str, num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    """``tiny-ssd``, or torchvision's SSD or FCOS head on the ``backbone`` (timm/NAME) that ``model_args`` name.

    Raises:
        InputError: arguments that it can't take.
    """
    channels, height, width = input_size
    if name == "tiny-ssd":
        _no_more(name, model_args, ())
        if not all(_TINY[0] <= side <= _TINY[1] for side in (height, width)):
            raise InputError(f"advkit/tiny-ssd: takes sides of {_TINY[0]} to {_TINY[1]} pixels, not {height}x{width}")
        return _tiny_ssd(num_classes, channels, (height, width))
    _no_more(name, model_args, ("backbone",))
    backbone = str(model_args.get("backbone", ""))
    library, _, network = backbone.partition("/")
    if library != "timm" or not network:
        raise InputError(f"advkit/{name}: needs a backbone; give --backbone timm/NAME[@WEIGHTS]")
    make = _fcos if name == "fcos" else _ssd
    return make(network, num_classes, channels, (height, width))


def _no_more(name: str, model_args: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if others := sorted(set(model_args) - set(known)):
        raise InputError(f"advkit/{name}: takes no model argument {others[0]!r}")


def _fixed(height: int, width: int) -> dict[str, Any]:
    """How torchvision's transform is told that images are scaled to one size, and not normalised once more."""
    return {"fixed_size": (width, height), "size_divisible": 1, "image_mean": [0.0], "image_std": [1.0]}


def _tiny_ssd(num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    from advkit.models.detectors.backbones import TinyStages
    from advkit.models.detectors.ssd import SSD

    anchors = DefaultBoxGenerator([[2], [2], [2], [2]], scales=[0.12, 0.25, 0.45, 0.7, 1.0])
    return SSD(TinyStages(channels), anchors, (size[1], size[0]), num_classes + 1, **_unnormalised())


def _ssd(backbone: str, num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

    from advkit.models.detectors.backbones import Stages
    from advkit.models.detectors.ssd import SSD

    anchors = DefaultBoxGenerator([[2, 3]] * 5, scales=[0.08, 0.18, 0.36, 0.56, 0.76, 0.96])
    stages = Stages(backbone, channels, 128)
    return SSD(stages, anchors, (size[1], size[0]), num_classes + 1, **_unnormalised())


def _fcos(backbone: str, num_classes: int, channels: int, size: tuple[int, int]) -> nn.Module:
    from torchvision.models.detection.fcos import FCOSHead

    from advkit.models.detectors.backbones import Pyramid
    from advkit.models.detectors.fcos import FCOS

    pyramid = Pyramid(backbone, channels, 128)
    head = FCOSHead(pyramid.out_channels, 1, num_classes, num_convs=2)
    return FCOS(pyramid, num_classes, head=head, score_thresh=0.01, **_fixed(*size))


def _unnormalised() -> dict[str, Any]:
    return {"image_mean": [0.0], "image_std": [1.0]}


def build_torchvision(name: str, num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    """torchvision's ``name`` with fresh weights and a class more than asked for, the background, as its weights have.

    Raises:
        InputError: other than colour images, arguments that it can't take.
    """
    import torchvision

    if input_size[0] != 3:
        raise InputError(f"torchvision/{name}: takes colour images, {input_size[0]} channels given; try advkit/fcos")
    try:
        net = torchvision.models.get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes + 1, **model_args
        )
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise InputError(f"torchvision/{name}: can't be built: {why}") from error
    return adapted(net)


def adapted(net: nn.Module) -> nn.Module:
    """torchvision's detector ``net`` as one of ours: the same weights under the same names, another ``forward``.

    It changes class in place, since a wrapper would change the names of all weights.
    """
    from torchvision.models import detection

    from advkit.models.detectors.faster_rcnn import FasterRCNN
    from advkit.models.detectors.fcos import FCOS
    from advkit.models.detectors.retinanet import RetinaNet
    from advkit.models.detectors.ssd import SSD

    ours: list[tuple[type[nn.Module], type[nn.Module]]] = [
        (detection.ssd.SSD, SSD),
        (detection.fcos.FCOS, FCOS),
        (detection.retinanet.RetinaNet, RetinaNet),
        (detection.faster_rcnn.FasterRCNN, FasterRCNN),
    ]
    net.__class__ = next(own for theirs, own in ours if type(net) is theirs)
    net.label_offset = 1  # type: ignore[assignment]
    return net


def defaults(architecture: str) -> ModelConfig:
    """Classes, size and normalisation when nobody says; those of torchvision's weights for its own detectors."""
    import torchvision

    library, _, name = architecture.partition("/")
    if library == "advkit":
        side = 128 if name == "tiny-ssd" else 320
        return ModelConfig(20, (3, side, side), IMAGENET_MEAN, IMAGENET_STD)

    weights = torchvision.models.get_model_weights(name).DEFAULT
    labels = tuple(weights.meta["categories"])[1:]  # the first is the background
    side = 300 if name.startswith("ssd300") else 320 if "320" in name else 800
    lite = name.startswith("ssdlite")
    vgg = name == "ssd300_vgg16"
    mean = (0.5,) * 3 if lite else (0.48235, 0.45882, 0.40784) if vgg else IMAGENET_MEAN
    std = (0.5,) * 3 if lite else (1.0 / 255.0,) * 3 if vgg else IMAGENET_STD
    return ModelConfig(len(labels), (3, side, side), mean, std, labels)


def pretrained_torchvision(name: str) -> nn.Module:
    """torchvision's ``name`` with its weights for COCO, downloaded (or found in the cache)."""
    import torchvision

    try:
        return adapted(torchvision.models.get_model(name, weights="DEFAULT"))
    except Exception as error:
        raise no_download(f"torchvision/{name}", error) from error


BUILDERS: dict[str, Callable[[str, int, Size, Mapping[str, Any]], nn.Module]] = {
    "advkit": build_advkit,
    "torchvision": build_torchvision,
}
NAMES: dict[str, Callable[[], Sequence[str]]] = {"advkit": partial(tuple, ADVKIT), "torchvision": torchvision_detectors}


def is_detector(architecture: str) -> bool:
    """Whether ``architecture`` (LIBRARY/NAME) is a detector."""
    library, _, name = architecture.partition("/")
    if library == "torchvision" and not name.startswith(("ssd", "faster", "retina", "fcos")):
        return False  # without importing torchvision
    return library in NAMES and name in NAMES[library]()
