"""A network in training as an attacker would see it: folded, as a function of its live parameters."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm
from torch.utils.hooks import RemovableHandle

from advkit.models.fuse import fold_pairs, fold_weights, folded_skeleton
from advkit.models.network import Network
from advkit.training import distributed
from advkit.training.double_backward import enable_fast_double_backward


class _Observer:
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
            count *= distributed.world_size()
        self.statistics = mean, variance * ((count - 1) / count)


class FusedView(nn.Module):
    """What an attacker sees of ``network`` right now, differentiable twice and down to ``network``'s parameters.

    Batch-norm's statistics count as constants, as they do at inference. They are the running ones; after
    :meth:`observe_batch_norm` and a training-mode forward pass, those that this pass normalised with, so that this is
    the very network that the training step sees. Call :meth:`refuse` after every change of the parameters.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.spec = network.spec
        self._network = [network]  # in a list: its parameters must not become this module's own
        self._pairs = fold_pairs(network.net)
        self._skeleton = [enable_fast_double_backward(folded_skeleton(network.net, self._pairs).eval())]
        self._weights: dict[str, Tensor] = {}
        self._norms = [(name, module) for name, module in network.net.named_modules() if isinstance(module, _BatchNorm)]
        self._observers: list[_Observer] = []

    def observe_batch_norm(self) -> None:
        """Watch the batch-norms from here to the next :meth:`refuse`; a training-mode forward pass lies between."""
        self._stop_observing()
        self._observers = [_Observer(name, norm) for name, norm in self._norms if norm.running_mean is not None]

    def _stop_observing(self) -> None:
        for observer in self._observers:
            observer.stop()

    def refuse(self) -> FusedView:
        """Fold the present parameters; returns self."""
        net = self._network[0].net
        weights: dict[str, Tensor] = dict(net.named_parameters()) | dict(net.named_buffers())
        self._stop_observing()
        statistics = {each.name: each.statistics for each in self._observers if each.statistics is not None}
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

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits of ``images`` (N, C, H, W) in [0, 1]."""
        network = self._network[0]
        x = (images - network.mean) / network.std
        x = x.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, functional_call(self._skeleton[0], self._weights, (x,)))
