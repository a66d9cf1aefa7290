"""From the options of ``train`` to data, a network to start from and the settings of the run.

Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advkit.commands.loading import check_task, load_for, model_notes
from advkit.commands.train_config import FitOptions, TrainingConfig
from advkit.commands.train_start import open_network, try_out, weights_ref
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.data.scaled_images import at_size
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models.detectors.resize import normalises_by_size
from advkit.models.native_size import native_size
from advkit.models.network import Network
from advkit.tasks.sampling import hold_out, limited
from advkit.tasks.task import task_named
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class TrainSetup:
    """Everything opened, each once.

    Attributes:
        images: training images; None when weights are packed without any.
        train, validation: positions in them.
        network: to train.
        references: that it is turned away from.
        params: how to train it.
    """

    images: ImageSet | None
    train: Tensor
    validation: Tensor
    network: Network
    references: list[Network]
    params: TrainParams

    def settings(self, config: FitOptions, processes: int) -> dict[str, Any]:
        """All that decides the bytes of the checkpoint, as JSON values; file names and reports do not."""
        spec = self.network.spec
        return {
            "params": self.params.to_json() | {"validation": config.validation, "limit": config.limit},
            "architecture": spec.architecture,
            **({"model_args": spec.model_args} if spec.model_args else {}),
            "start": fingerprint(self.network.net.state_dict()),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "data": self.images.fingerprint if self.images is not None else None,
            "references": [reference.spec.sha256 for reference in self.references],
            "processes": processes,
        }

    def notes(self) -> list[str]:
        """What the loading of the weights to start from and of the references had to say."""
        return [note for network in (self.network, *self.references) for note in model_notes(network)]


def open_setup(
    config: TrainingConfig,
    device: str,
    params: Callable[[ImageSet | None], TrainParams],
    references: Sequence[str] = (),
) -> TrainSetup:
    """From the command's options to everything that a run needs.

    Args:
        config: the options.
        device: where to put networks.
        params: the settings, given the images.
        references: models that the network is turned away from.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    images = _open_images(config)
    if images is not None and config.epochs and images.num_classes < task_named(images.task).least_classes:
        raise InputError(f"{images.ref}: one class, {images.class_names[0]}, and no other; at least two are needed")
    if images is not None and not task_named(images.task).smooths_labels:
        config.refuse(("label_smoothing",), f"does nothing in {images.task}; leave it out")
    train, validation = torch.empty(2, 0, dtype=torch.int64)
    opened = []
    if images is not None:
        train, validation = hold_out(task_named(images.task), images, config.validation, config.seed)
    network = open_network(config, images, train, device)
    if images is not None:
        check_task(network.spec.ref, network, images)
    if config.epochs and not config.freeze_bn and normalises_by_size(network.net):
        raise InputError(
            f"{network.spec.ref}: scales images by their shorter side, so that its batch-norms would see one size at a "
            "time; give --freeze-bn"
        )
    if images is not None and config.epochs:
        try_out(network, images, train)
    if images is not None:
        opened = [load_for(ref, images, device, native=native_size(ref)) for ref in references]
    return TrainSetup(images, train, validation, network, opened, params(images))


def _open_images(config: TrainingConfig) -> ImageSet | None:
    if not config.data:
        return None
    native = native_size(start) if (start := weights_ref(config)) else None
    made = native_size(config.arch) if config.arch else native
    images = data_reference.load(
        config.data,
        role="train",
        size=(config.size, config.size) if config.size else None,
        channels=native.channels if native is not None else None,  # grey images are repeated for weights of colour
        download=config.download,
        fix_boxes=config.fix_boxes,
    )
    if config.size and images.resize is None and (made is None or not made.scales):
        images = at_size(images, config.size, config.size)
    return limited(task_named(images.task), images, config.limit, config.seed)
