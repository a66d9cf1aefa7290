"""Places inside a network to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError


def last_spatial(network: nn.Module, image_size: tuple[int, int, int]) -> nn.Module:
    """The last leaf module whose output is a map (N, C, h, w) of more than one pixel, for images of ``image_size``.

    Raises:
        InputError: the network has no such module.
    """
    found: list[nn.Module] = []

    def see(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] * output.shape[-2] > 1:
            found.append(module)

    hooks = [module.register_forward_hook(see) for module in network.modules() if not list(module.children())]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *image_size, device=next(network.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise InputError("no spatial map inside this network: Grad-CAM needs one; use --map saliency")
    return found[-1]
