"""The features of a classifier: what the linear layer takes that gives its logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.network import Network


def head_of(network: Network) -> nn.Linear:
    """The linear layer that gives the logits: the last one to run, found by a dry run in evaluation mode.

    Raises:
        InputError: the last linear layer gives something else, or there is none.
    """
    ran: list[tuple[nn.Linear, Tensor]] = []

    def see(module: nn.Module, inputs: object, output: Tensor) -> None:
        assert isinstance(module, nn.Linear)
        ran.append((module, output))

    hooks = [module.register_forward_hook(see) for module in network.net.modules() if isinstance(module, nn.Linear)]
    modes = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            logits = network.eval()(torch.zeros(1, *network.spec.input_size, device=network.mean.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
    if not ran or ran[-1][1].shape != logits.shape or not torch.equal(ran[-1][1], logits):
        raise InputError(
            f"{network.spec.ref}: no linear layer gives its logits, and what such a layer takes is aligned; choose "
            "--method mcc, adabn or self-training"
        )
    return ran[-1][0]


class FeatureTap:
    """Keeps what the head of ``network`` took in the last training pass.

    Attributes:
        head: the linear layer.
    """

    def __init__(self, network: Network) -> None:
        self.head = head_of(network)
        self._found: Tensor | None = None
        self.head.register_forward_pre_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training:  # attacks look in evaluation mode
            self._found = inputs[0]

    def taken(self) -> Tensor:
        """(N, D) of the last training pass, once."""
        found, self._found = self._found, None
        if found is None:
            raise RuntimeError("no training pass since the features were taken")
        return found.flatten(1)
