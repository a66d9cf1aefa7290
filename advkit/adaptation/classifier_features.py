"""The features of a classifier: what the linear layer takes that gives its logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.feature_layers import last_linear
from advkit.models.network import Network


def head_of(network: Network) -> nn.Linear:
    """The linear layer that gives the logits: the last one to run.

    Raises:
        InputError: the last linear layer gives something else, or there is none.
    """
    found = last_linear(network)
    if found is None or not found[1]:
        raise InputError(
            f"{network.spec.ref}: no linear layer gives its logits, and what such a layer takes is aligned; choose "
            "--method mcc, adabn or self-training"
        )
    return found[0]


class FeatureRecorder:
    """Keeps what the head of ``network`` took in the last training pass.

    Attributes:
        head: the linear layer.
    """

    def __init__(self, network: Network) -> None:
        self.head = head_of(network)
        self._found: Tensor | None = None
        self.head.register_forward_pre_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if module.training:  # attacks look in evaluation mode
            self._found = inputs[0]

    def pop(self) -> Tensor:
        """(N, D) of the last training pass, once."""
        found, self._found = self._found, None
        if found is None:
            raise RuntimeError("no training pass since the features were taken")
        return found.flatten(1)
