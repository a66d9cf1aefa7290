"""The second stream of images: those of the target domain, without labels, beside the source's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.tasks.task import Task
from advkit.training import distributed
from advkit.training.objective import TrainingStep
from advkit.training.order import epoch_order
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class TargetBatch:
    """Target images of one step, this process's share of them.

    Attributes:
        images: (M, C, H, W) float32 in [0, 1], as they are.
        augmented: (M, C, H, W) likewise, changed as the source's are.
        nothing: (M, ...) targets that say nothing.
        indices: (M,) int64 identities, which key randomness.
        epoch: over the target images, from 0; it keys randomness.
    """

    images: Tensor
    augmented: Tensor
    nothing: Tensor
    indices: Tensor
    epoch: int


class TargetStream:
    """As many target images as source images in every step, one permutation of them after another.

    What a step gets is a function of seed, rank and the step's number alone. Where a batch runs over the end of a
    permutation it goes on with the next, so that few target images, even fewer than a batch, serve any source.

    Attributes:
        images: the target images; their targets say nothing.
    """

    def __init__(self, images: ImageSet, task: Task, params: TrainParams) -> None:
        self.images, self._task, self._params = images, task, params
        self._turn, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch(self, step: TrainingStep) -> TargetBatch:
        """The target images that go with ``step``."""
        size = self._params.batch_size
        return self._taken(step.number * size, size, step.images.device)

    def positions(self, start: int, count: int) -> Tensor:
        """(count,) positions of items ``start``, ``start`` + 1, ... of the stream."""
        parts, at = [], start
        while at < start + count:
            turn, place = divmod(at, len(self.images))
            if turn != self._turn:
                seed = counter_rng.stream("target order", self._params.seed)
                self._turn, self._order = turn, epoch_order(len(self.images), seed, turn)
            parts.append(self._order[place : place + start + count - at])
            at += len(parts[-1])
        return torch.cat(parts)

    def _taken(self, start: int, count: int, device: torch.device) -> TargetBatch:
        share = self.positions(start, count)[distributed.rank() :: distributed.world_size()]
        images, nothing = self.images.batch(share)
        indices, epoch = self.images.indices[share], start // len(self.images)
        images, nothing, indices = images.to(device), nothing.to(device), indices.to(device)
        own = self._params
        seed = counter_rng.stream("target augmentation", own.seed)
        changed, _ = self._task.augmented(images, nothing, indices, own.augment, seed, epoch)
        return TargetBatch(images, changed, nothing, indices, epoch)
