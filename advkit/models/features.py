"""What a network sees in an image, as one row of numbers: the outputs of a layer, averaged over the places."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.detectors.output import GroupedDetector
from advkit.models.feature_layers import last_linear, last_spatial
from advkit.models.network import Network
from advkit.models.wrappers import own_module


class PixelFeatures:
    """The pixels themselves."""

    layer = "pixels"

    def __call__(self, images: Tensor) -> Tensor:
        """(N, C·H·W) float32 of ``images`` (N, C, H, W)."""
        return images.flatten(1)


class LayerFeatures:
    """The outputs of one layer of a network, or what goes into it.

    Maps (N, D, h, w) are averaged over the places, tokens (N, T, D) over the tokens; several maps, such as the levels
    of a detector's backbone, lie side by side. Where a layer is called several times, the last time counts.

    Attributes:
        layer: what it is, for reports.
    """

    def __init__(self, network: Network, module: nn.Module, layer: str, *, inputs: bool = False) -> None:
        self.layer = layer
        self._network, self._module, self._inputs = network, module, inputs

    def __call__(self, images: Tensor) -> Tensor:
        """(N, d) float32 of ``images`` (N, C, H, W) in [0, 1].

        Raises:
            InputError: the layer is not called, or puts out no features.
        """
        kept: list[Sequence[Tensor | None]] = []

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            # At once: what comes after may work in place.
            kept[:] = [[_pooled(one) for one in _tensors(inputs[0] if self._inputs else output)]]

        hook = self._module.register_forward_hook(keep)
        try:
            with torch.no_grad():
                self._network(images)
        finally:
            hook.remove()
        rows = kept[0] if kept else []
        if not rows or any(row is None or len(row) != len(images) for row in rows):
            what = "puts out no rows of features, one for each image" if kept else "is not called for an image"
            raise InputError(f"{self._network.spec.ref}: layer {self.layer} {what}; name another")
        return torch.cat([row for row in rows if row is not None], 1).float()


def layer_features(network: Network, layer: str | None = None) -> LayerFeatures:
    """The features of ``layer``; without one, of a detector its backbone, of others what goes into the last layer.

    Args:
        network: in evaluation mode.
        layer: a module's name in the network, such as ``layer4.1`` or ``backbone``.

    Raises:
        InputError: no such layer.
    """
    net = own_module(network)
    names = {name: module for name, module in net.named_modules() if name}
    if layer is not None:
        if layer not in names:
            near = difflib.get_close_matches(layer, names, n=3) or list(names)[:: max(1, len(names) // 5)][:6]
            raise InputError(f"{network.spec.ref}: no layer {layer!r}; it has {len(names)}, such as {', '.join(near)}")
        return LayerFeatures(network, names[layer], layer)
    if isinstance(net, GroupedDetector):
        return LayerFeatures(network, net.backbone, "backbone")
    head = last_linear(network)
    if head is not None and head[0].out_features == network.spec.num_classes:
        name = next(name for name, one in names.items() if one is head[0])
        return LayerFeatures(network, head[0], f"input of {name}", inputs=True)
    module = last_spatial(network)
    return LayerFeatures(network, module, next(name for name, one in names.items() if one is module))


def _tensors(output: Any) -> Sequence[Any]:
    if isinstance(output, dict):
        return list(output.values())
    return output if isinstance(output, list | tuple) else [output]


def _pooled(output: Any) -> Tensor | None:
    """(N, D) of an output; None where it is none."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.ndim < 2:
        return None
    if output.ndim == 3:
        return output.float().mean(1)
    return output.float().flatten(2).mean(2) if output.ndim > 3 else output.clone()
