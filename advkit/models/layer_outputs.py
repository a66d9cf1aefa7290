"""All that a layer puts out for an image, place by place, as a function that can be differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from advkit.files.errors import InputError
from advkit.models.feature_layers import last_spatial
from advkit.models.features import layer_features
from advkit.models.network import Network
from advkit.models.wrappers import own_module


class LayerOutputs:
    """The outputs of one layer of a network, none of them averaged; several maps lie side by side.

    Attributes:
        layer: its name.
        ref: the network's, for messages.
    """

    def __init__(self, network: Network, layer: str | None = None) -> None:
        """Find the layer.

        Args:
            network: in evaluation mode.
            layer: a module's name in the network; without one, the last map (:func:`last_spatial`), of a detector all
                levels of its backbone.

        Raises:
            InputError: no such layer; without a name, no map.
        """
        net = own_module(network)
        self._network, self.ref = network, network.spec.ref
        if layer is None:
            self._module = last_spatial(network)
            self.layer = next(name for name, module in net.named_modules() if module is self._module)
        else:
            self.layer = layer_features(network, layer).layer
            self._module = net.get_submodule(self.layer)

    def __call__(self, image: Tensor) -> Tensor:
        """(1, d) float32 of ``image`` (1, C, H, W) in [0, 1], with its graph.

        Where the layer is called several times, the last time counts.

        Raises:
            InputError: the layer is not called, or puts out no numbers for the image.
        """
        kept: list[Sequence[Any]] = []

        def keep(module: object, inputs: object, output: Any) -> None:
            levels = list(output.values()) if isinstance(output, dict) else output
            many = levels if isinstance(levels, list | tuple) else [levels]
            kept[:] = [
                [one.clone() if isinstance(one, Tensor) else one for one in many]
            ]  # what comes after may work in place

        hook = self._module.register_forward_hook(keep)
        try:
            with torch.enable_grad():
                self._network(image)
        finally:
            hook.remove()
        maps = kept[0] if kept else []
        if not maps or not all(isinstance(one, Tensor) and one.is_floating_point() and len(one) == 1 for one in maps):
            what = "puts out no numbers for an image" if kept else "is not called for an image"
            raise InputError(f"{self.ref}: layer {self.layer} {what}; name another")
        return torch.cat([one.flatten(1).float() for one in maps], 1)
