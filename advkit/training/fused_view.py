"""A network in training as an attacker would see it: folded, as a function of its live parameters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.models.fuse import fold_pairs, fold_weights, folded_skeleton
from advkit.models.network import Network
from advkit.training.batch_statistics import BatchNormObserver
from advkit.training.double_backward import enable_fast_double_backward


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
        self._observers: list[BatchNormObserver] = []

    def observe_batch_norm(self) -> None:
        """Watch the batch-norms from here to the next :meth:`refuse`; a training-mode forward pass lies between."""
        self._stop_observing()
        self._observers = [BatchNormObserver(name, norm) for name, norm in self._norms if norm.running_mean is not None]

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
