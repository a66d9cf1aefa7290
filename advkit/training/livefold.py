"""A network's evaluation-mode function, folded, as a function of its live parameters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advkit.models.fold import fold_pairs, fold_weights, folded_skeleton
from advkit.models.network import Network
from advkit.training.twice import quicken


class LiveFold(nn.Module):
    """What an attacker sees of ``network`` right now, differentiable twice and down to ``network``'s parameters.

    Running statistics count as constants, as they do at inference. Call :meth:`refresh` after every change of the
    parameters.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = [network]  # in a list: its parameters must not become this module's own
        self._skeleton = [quicken(folded_skeleton(network.net).eval())]
        self._pairs = fold_pairs(network.net)
        self._weights: dict[str, Tensor] = {}

    def refresh(self) -> LiveFold:
        """Fold the present parameters; returns self."""
        net = self._network[0].net
        weights: dict[str, Tensor] = dict(net.named_parameters()) | dict(net.named_buffers())
        for conv_name, norm_name in self._pairs:
            conv, norm = net.get_submodule(conv_name), net.get_submodule(norm_name)
            for name in [name for name in weights if name.startswith(f"{norm_name}.")]:
                del weights[name]
            weights[f"{conv_name}.weight"], weights[f"{conv_name}.bias"] = fold_weights(conv, norm)
        self._weights = weights
        return self

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) logits of ``images`` (N, C, H, W) in [0, 1]."""
        network = self._network[0]
        x = (images - network.mean) / network.std
        x = x.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, functional_call(self._skeleton[0], self._weights, (x,)))
