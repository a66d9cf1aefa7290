"""R's gradients along a candidate's training: the same for every candidate, so they are computed once.

Candidates see the same images in the same order with the same augmentation, and R is frozen: the directions that the
penalty compares with are a function of epoch and image. They are kept as half floats, each scaled by its largest
entry; a cosine does not see the scale, and moves by less than 1e-3.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from advkit.attacks.gradient_similarity import margin_gradients
from advkit.data.images import ImageSet
from advkit.files.checkpoint import canonical_json
from advkit.files.errors import InputError
from advkit.files.tensors import TensorWriter, open_tensor
from advkit.metrics.norms import flat_norm, per_image
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.tasks.task import task_of
from advkit.training.params import TrainParams

SPEC = "advkit/gradients/1"
_BATCH = 128


def recordable(params: TrainParams) -> bool:
    """Whether the penalty compares at the clean images: at points that move there is nothing to record."""
    return params.misalign is not None and "clean" in params.misalign.at


def record(path: Path, reference: Network, data: ImageSet, positions: Tensor, params: TrainParams, device: str) -> None:
    """Write R's directions at the images of ``positions`` as each epoch augments them; an existing file is kept.

    Args:
        path: the file.
        reference: R, as loaded.
        data, positions: the training images of a full-length candidate training.
        params: its settings.
        device: where to work.
    """
    if path.exists():
        return
    quick, count, task = fuse_conv_bn(reference), len(positions), task_of([reference])
    shapes = {
        "directions": (torch.float16, (params.epochs * count, *data.size)),
        "indices": (torch.int64, (count,)),
    }
    with TensorWriter(path, shapes, canonical_json({"spec": SPEC, "epochs": params.epochs})) as rows:
        rows.append({"indices": data.indices[positions]})
        for epoch in range(params.epochs):
            for start in range(0, count, _BATCH):
                part = positions[start : start + _BATCH]
                images, targets = (value.to(device) for value in data.batch(part))
                indices = data.indices[part].to(device)
                images, targets = task.augmented(images, targets, indices, params.augment, params.seed, epoch)
                found, _ = margin_gradients(quick, images, targets)
                largest = flat_norm(found, "linf").clamp_min(torch.finfo(found.dtype).tiny)
                rows.append({"directions": (found / per_image(largest)).to(torch.float16).cpu()})


class GradientCache:
    """The recorded directions, which stay on the disk: workers of one machine share its cache."""

    def __init__(self, path: Path, size: tuple[int, int, int], device: str) -> None:
        """Open what :func:`record` wrote for images of ``size``.

        Raises:
            InputError: a damaged file.
        """
        stored = open_tensor(path, "indices")
        indices = stored.rows(0, len(stored))
        self._directions = open_tensor(path, "directions").mapped().reshape(-1, len(indices), *size)
        self._rows = torch.full((int(indices.max()) + 1,), -1)
        self._rows[indices] = torch.arange(len(indices))
        self._path, self._device = path, device

    def at(self, indices: Tensor, epoch: int) -> Tensor:
        """(N, C, H, W) float32 directions at the images ``indices`` (N,) in ``epoch``.

        Raises:
            InputError: an image or an epoch that the file is not of.
        """
        wanted = indices.cpu()
        known = bool((wanted < len(self._rows)).all()) and epoch < len(self._directions)
        rows = self._rows[wanted] if known else wanted.new_full(wanted.shape, -1)
        if not bool((rows >= 0).all()):
            raise InputError(f"{self._path}: is not of this run; delete it, and it is made again")
        picked = torch.from_numpy(self._directions[epoch, rows.numpy()])
        return picked.to(self._device, torch.float32)
