"""The second stream of images: those of the target domain, without labels, beside the source's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.parallel import process_group
from advkit.tasks.task import Task
from advkit.training.objective import TrainingStep
from advkit.training.order import epoch_order
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class TargetBatch:
    """Target images of one step, this process's share of them.

    Attributes:
        images: (M, C, H, W) float32 in [0, 1], as they are.
        augmented: (M, C, H, W) likewise, changed as the source's are.
        unlabelled: (M, ...) targets without a class or an object.
        keys: (M,) int64, one for each image and pass over the target images, which key randomness: where an image comes
            twice in a batch it is augmented twice.
        step: its number, from 0.
    """

    images: Tensor
    augmented: Tensor
    unlabelled: Tensor
    keys: Tensor
    step: int


class TargetStream:
    """As many target images as source images in every step, one permutation of them after another.

    What a step gets is a function of seed, rank and the step's number alone. Where a batch runs over the end of a
    permutation it goes on with the next, so that few target images, even fewer than a batch, serve any source.

    Attributes:
        images: the target images; their targets are without classes and objects.
    """

    def __init__(self, images: ImageSet, task: Task, params: TrainParams) -> None:
        self.images, self._task, self._params = images, task, params
        self._pass, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: TrainingStep) -> TargetBatch:
        """The target images that go with ``step``."""
        size, device, own = self._params.batch_size, step.images.device, self._params
        items = torch.arange(step.number * size, (step.number + 1) * size)
        rank, world = process_group.rank(), process_group.world_size()
        share = self.positions(step.number * size, size)[rank::world]
        images, unlabelled = (value.to(device) for value in self.images.batch(share))
        keys = pass_keys(self.images.indices[share], items[rank::world] // len(self.images)).to(device)
        seed = counter_rng.stream("target augmentation", own.seed)
        augmented, _ = self._task.augmented(images, unlabelled, keys, own.augment, seed, 0)
        return TargetBatch(images, augmented, unlabelled, keys, step.number)

    def positions(self, start: int, count: int) -> Tensor:
        """(count,) positions of items ``start``, ``start`` + 1, ... of the stream."""
        parts, at = [], start
        while at < start + count:
            number, place = divmod(at, len(self.images))
            if number != self._pass:
                seed = counter_rng.stream("target order", self._params.seed)
                self._pass, self._order = number, epoch_order(len(self.images), seed, number)
            parts.append(self._order[place : place + start + count - at])
            at += len(parts[-1])
        return torch.cat(parts)


def pass_keys(indices: Tensor, passes: Tensor) -> Tensor:
    """(M,) int64: another key for each of the images ``indices`` (M,) in each of the ``passes`` (M,), from 0."""
    return indices + (passes << 32)  # more images than 2^32 are in no set
