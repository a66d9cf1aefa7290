"""Data-parallel training under torchrun, in the few lines that it needs.

Every rank takes its share of each global batch. Gradients are summed over ranks in one flat tensor; batch-norm takes
its statistics over the global batch, so that the number of processes changes nothing but rounding. Counts are summed
as integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.parallel.process_group import sum_over_ranks, world_size


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over ranks."""
    average([parameter.grad for parameter in parameters if parameter.grad is not None])


def average(tensors: Sequence[Tensor]) -> None:
    """Replace every tensor by its mean over ranks, in one message."""
    if world_size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    position = 0
    for tensor in tensors:
        tensor.copy_(flat[position : position + tensor.numel()].view_as(tensor))
        position += tensor.numel()


class _GlobalSum(torch.autograd.Function):
    """Sum over ranks whose gradient is summed over ranks too."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return sum_over_ranks(values)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return sum_over_ranks(gradients[0])


def global_sum(values: Tensor) -> Tensor:
    """``values`` summed over all ranks, differentiable: a loss made of it has the gradient of the global batch's.

    Gradients of the ranks are to be averaged, as :func:`average_gradients` does.
    """
    if world_size() == 1:
        return values
    found: Tensor = _GlobalSum.apply(values)
    return found


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm over the global batch. torch's own SyncBatchNorm runs on GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        given, input = input.dtype, input.float()  # statistics are float32, whatever the step computes in
        count = input.numel() // input.shape[1] * world_size()
        mean = _GlobalSum.apply(input.sum(dim=(0, 2, 3))) / count
        centred = input - mean[:, None, None]
        variance = _GlobalSum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                factor = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean, factor)
                self.running_var.lerp_(variance * (count / max(count - 1, 1)), factor)
        normed = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        whole = F.batch_norm(  # only the affine part: statistics 0 and 1
            normed, torch.zeros_like(mean), torch.ones_like(variance), self.weight, self.bias, False, 0.0, 0.0
        )
        return whole.to(given)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let every BatchNorm2d of ``network`` take its statistics over all ranks, in place; does nothing on one.

    Raises:
        InputError: batch-norm of another kind, whose statistics would differ from rank to rank.
    """
    if world_size() == 1:
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = GlobalBatchNorm2d
        elif isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, GlobalBatchNorm2d):
            raise InputError(f"{type(module).__name__}: has no statistics over several processes; train in one process")
