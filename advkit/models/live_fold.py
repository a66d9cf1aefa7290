"""Batch-norm folded into the layer before it while a network trains: wherever it normalises by fixed statistics.

A training pass with frozen statistics and every pass of an attack see batch-norm as a fixed affine map. Folding it anew
in each pass, as a function of the parameters, gives the same values and gradients without its passes over memory.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from advkit.models.fuse import agree, fold_weights, foldable, remainder
from advkit.models.modes import evaluating
from advkit.models.network import Network


class LiveFold:
    """The folds of ``network``, whose parameters, buffers and names stay what they are.

    They are given up where the network traces in one way and runs in another, or amplifies rounding.

    Attributes:
        pairs: names (layer, batch-norm) in ``network.net``.
    """

    def __init__(self, network: Network) -> None:
        self.pairs = foldable(network.net)
        self._forwards: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = []
        for layer_name, norm_name in self.pairs:
            layer, norm = network.net.get_submodule(layer_name), network.net.get_submodule(norm_name)
            self._forwards += [(layer, _Layer(layer, norm)), (norm, _Norm(norm))]
        if self.pairs and not self._is_sound(network):
            self.pairs, self._forwards = [], []

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Passes inside are folded at every batch-norm in evaluation mode; one in training mode works as ever.

        Not for copies of the network that are made inside.
        """
        for module, forward in self._forwards:
            module.__dict__["forward"] = forward
        try:
            yield
        finally:
            for module, _ in self._forwards:
                del module.__dict__["forward"]

    def _is_sound(self, network: Network) -> bool:
        def folded(images: Tensor) -> Any:
            with self.applied():
                return network(images)

        with evaluating(network):
            return agree(network, folded)


class _Layer:
    """``forward`` of a convolution or linear layer."""

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        self._layer, self._norm = layer, norm
        self._shape = copy.deepcopy(layer).to("meta")
        if self._shape.bias is None:
            self._shape.bias = nn.Parameter(torch.empty(self._shape.weight.shape[0], device="meta"))

    def __call__(self, x: Tensor) -> Tensor:
        if self._norm.training:
            return cast(Tensor, type(self._layer).forward(self._layer, x))
        weight, bias = fold_weights(self._layer, self._norm)
        return cast(Tensor, functional_call(self._shape, {"weight": weight, "bias": bias}, (x,)))


class _Norm:
    """``forward`` of a batch-norm."""

    def __init__(self, norm: nn.Module) -> None:
        self._norm, self._rest = norm, remainder(norm)

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, type(self._norm).forward(self._norm, x) if self._norm.training else self._rest(x))
