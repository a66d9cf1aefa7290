"""The statistics that batch-norms in training mode normalise with: read, and estimated anew for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.utils.hooks import RemovableHandle

from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.parallel import process_group
from advkit.tasks.task import task_of
from advkit.training import distributed
from advkit.training.params import TrainParams


class BatchNormObserver:
    """Reads the mean and variance that one batch-norm in training mode normalises a batch with.

    It lends the layer buffers of its own and momentum 1, which leaves the batch's statistics in them, exactly and
    without a second pass over the maps; then it updates the layer's real buffers by its real momentum. The layer keeps
    the unbiased variance, and normalises with the biased one.

    Attributes:
        name: of the layer.
        statistics: mean and biased variance of each channel; None while no batch was seen.
    """

    def __init__(self, name: str, norm: _BatchNorm) -> None:
        self.name = name
        self.statistics: tuple[Tensor, Tensor] | None = None
        self._lent: tuple[Tensor, Tensor, float | None] | None = None
        self._hooks: list[RemovableHandle] = [
            norm.register_forward_pre_hook(self._before),
            norm.register_forward_hook(self._after, always_call=True),  # after an error too: what is lent goes back
        ]

    def stop(self) -> None:
        """Leave the layer alone."""
        for hook in self._hooks:
            hook.remove()

    def _before(self, norm: Any, inputs: Any) -> None:
        if norm.training:  # a frozen one sees its running statistics, and so does the view
            self._lent = norm.running_mean, norm.running_var, norm.momentum
            norm.running_mean, norm.running_var = torch.zeros_like(norm.running_mean), torch.ones_like(norm.running_var)
            norm.momentum = 1.0

    def _after(self, norm: Any, inputs: Any, output: Any) -> None:
        if self._lent is None:
            return
        mean, variance = norm.running_mean, norm.running_var
        norm.running_mean, norm.running_var, norm.momentum = self._lent
        self._lent = None
        if output is None:
            return
        part = norm.momentum if norm.momentum is not None else 1.0 / float(norm.num_batches_tracked)
        with torch.no_grad():
            norm.running_mean.lerp_(mean, part)
            norm.running_var.lerp_(variance, part)
        count = inputs[0].numel() // inputs[0].shape[1]
        if isinstance(norm, distributed.GlobalBatchNorm2d | SyncBatchNorm):
            count *= process_group.world_size()
        self.statistics = mean, variance * ((count - 1) / count)


def precise_batch_norm(network: Network, data: ImageSet, positions: Tensor, params: TrainParams, epoch: int) -> None:
    """Estimate the running statistics of batch-norms anew, by those of whole batches ("precise BN").

    Running averages tell of weights of some steps ago. Cross-entropy does not mind when the mean of a map moves, for a
    batch-norm in training mode takes it away; a penalty on the folded network moves it at every step, and what
    inference normalises with then lags behind (see Wu and Johnson 2021, section 3). Each mean becomes the mean over the
    batches, each variance the pooled one. Frozen batch-norms, and those without running statistics, stay as they are.

    Args:
        network: changed in place; left in eval mode.
        data: training images.
        positions: (N,) in ``data``; N is a multiple of ``params.batch_size``.
        params: batch size, augmentation and seed of the training.
        epoch: whose augmentation the images get.
    """
    network.train()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    norms = [norm for norm in norms if norm.running_mean is not None]
    network.eval()  # inference has no dropout
    if not norms:
        return
    counted = [(tracked, tracked.clone()) for norm in norms if (tracked := norm.num_batches_tracked) is not None]
    observers = [BatchNormObserver("", norm.train()) for norm in norms]
    sums: list[list[Tensor]] = [[] for _ in norms]
    device, task = next(network.parameters()).device, task_of([network])
    rank, world, size = process_group.rank(), process_group.world_size(), params.batch_size
    with torch.no_grad():
        for start in range(0, len(positions), size):
            share = positions[start : start + size][rank::world]
            images, targets = (value.to(device) for value in data.batch(share))
            indices = data.indices[share].to(device)
            network(task.augmented(images, targets, indices, params.augment, params.seed, epoch)[0])
            for observer, found in zip(observers, sums, strict=True):
                assert observer.statistics is not None
                mean, variance = (value.double() for value in observer.statistics)
                found.append(torch.stack([mean, variance + mean.square()]))
        for observer, norm, found in zip(observers, norms, sums, strict=True):
            observer.stop()
            mean, square = torch.stack(found).mean(0)
            norm.running_mean.copy_(mean)  # type: ignore[union-attr]
            norm.running_var.copy_((square - mean.square()).clamp(min=0))  # type: ignore[union-attr]
        for tracked, count in counted:
            tracked.copy_(count)
    network.eval()
