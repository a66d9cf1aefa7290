"""Places inside a network to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.detectors.output import GroupedDetector
from advkit.models.modes import evaluating
from advkit.models.network import Network
from advkit.models.wrappers import own_module

# Their four axes are no map: attention weights (N, heads, tokens, tokens), per-head norms.
_NO_MAPS = (nn.Dropout, nn.Softmax, nn.LayerNorm)


def dry_run(
    network: Network,
    modules: Iterable[nn.Module],
    see: Callable[[nn.Module, object, object], None],
    image_size: tuple[int, int, int] | None = None,
) -> object:
    """What ``network`` gives for one black image; ``see`` gets what goes into each of ``modules``, and comes out."""
    hooks = [module.register_forward_hook(see) for module in modules]
    try:
        with evaluating(network):
            found: object = network(
                torch.zeros(1, *(image_size or network.spec.input_size), device=network.mean.device)
            )
    finally:
        for hook in hooks:
            hook.remove()
    return found


def last_linear(network: Network) -> tuple[nn.Linear, bool] | None:
    """The linear layer that is the last to run, and whether what it gives are the logits; None without any."""
    ran: list[tuple[nn.Linear, Tensor]] = []

    def see(module: nn.Module, inputs: object, output: object) -> None:
        assert isinstance(module, nn.Linear)
        assert isinstance(output, Tensor)
        ran.append((module, output))

    logits = dry_run(network, (module for module in network.net.modules() if isinstance(module, nn.Linear)), see)
    if not ran:
        return None
    layer, output = ran[-1]
    return layer, isinstance(logits, Tensor) and output.shape == logits.shape and torch.equal(output, logits)


def last_spatial(network: Network, image_size: tuple[int, int, int] | None = None) -> nn.Module:
    """The last module of ``network`` to finish with a map (N, C, h, w) of more than one pixel: Grad-CAM's place.

    A map has the sides of the image divided by a common stride, give or take rounding. Found by a dry run on one image
    of ``image_size``, by default the network's own size, in evaluation mode.

    A detector's maps are the levels that its backbone gives, together.

    Raises:
        InputError: the network has no such module.
    """
    net = own_module(network)
    if isinstance(net, GroupedDetector):
        return net.backbone
    _, height, width = size = image_size or network.spec.input_size
    found: list[nn.Module] = []

    def see(module: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4 or type(module) in _NO_MAPS:
            return
        h, w = output.shape[-2:]
        if h * w > 1 and h <= height and w <= width and abs(h * width - w * height) <= max(height, width):
            found.append(module)

    dry_run(network, (module for module in network.net.modules() if module is not network.net), see, size)
    if not found:
        raise InputError(f"{network.spec.ref}: no spatial map inside it, which Grad-CAM needs; use --map saliency")
    return found[-1]
