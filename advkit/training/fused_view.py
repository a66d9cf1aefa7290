"""A network in training as an attacker would see it: folded, as a function of its live parameters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.models.fuse import fold_pairs, fold_weights, folded_skeleton
from advkit.models.network import Network
from advkit.training.double_backward import enable_fast_double_backward


class FusedView(nn.Module):
    """What an attacker sees of ``network`` right now, differentiable twice and down to ``network``'s parameters.

    Batch-norm's statistics count as constants, as they do at inference. They are the running ones; after
    :meth:`snapshot_bn` and a training-mode forward pass, those of that pass's batch, so that this is the very network
    that the training step sees. Call :meth:`refuse` after every change of the parameters.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = [network]  # in a list: its parameters must not become this module's own
        self._pairs = fold_pairs(network.net)
        self._skeleton = [enable_fast_double_backward(folded_skeleton(network.net, self._pairs).eval())]
        self._weights: dict[str, Tensor] = {}
        self._before: dict[str, tuple[Tensor, Tensor]] = {}

    def snapshot_bn(self) -> None:
        """Note the running statistics before a training-mode forward pass."""
        self._before = {
            name: (norm.running_mean.clone(), norm.running_var.clone())
            for name, norm in self._network[0].net.named_modules()
            if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
        }

    def refuse(self) -> FusedView:
        """Fold the present parameters; returns self."""
        net = self._network[0].net
        weights: dict[str, Tensor] = dict(net.named_parameters()) | dict(net.named_buffers())
        statistics = {name: self._batch_statistics(name) for name in self._before}
        for name, (mean, variance) in statistics.items():
            weights[f"{name}.running_mean"], weights[f"{name}.running_var"] = mean, variance
        for conv_name, norm_name in self._pairs:
            conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
            for name in [name for name in weights if name.startswith(f"{norm_name}.")]:
                del weights[name]
            folded = fold_weights(conv, norm, statistics.get(norm_name))
            weights[f"{conv_name}.weight"], weights[f"{conv_name}.bias"] = folded
        self._weights = weights
        return self

    def _batch_statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean and (unbiased) variance of the last batch, solved for in the update of the running statistics."""
        norm = cast(_BatchNorm, self._network[0].net.get_submodule(name))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        part = norm.momentum if norm.momentum is not None else 1.0 / max(float(norm.num_batches_tracked), 1.0)
        if not norm.training or part == 0.0:  # frozen: the running statistics are what the step sees, or all there is
            return norm.running_mean.clone(), norm.running_var.clone()
        before, now = self._before[name], (norm.running_mean, norm.running_var)
        mean, variance = (new + (new - old) * (1.0 / part - 1.0) for old, new in zip(before, now, strict=True))
        return mean, variance.clamp_min(0.0)

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits of ``images`` (N, C, H, W) in [0, 1]."""
        network = self._network[0]
        x = (images - network.mean) / network.std
        x = x.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, functional_call(self._skeleton[0], self._weights, (x,)))
