"""Fresh weights."""

from __future__ import annotations

from torch import nn


def kaiming(net: nn.Module) -> None:
    """Draw the weights of every convolution and linear layer of ``net`` from the global random state.

    Normal with variance 2 / fan-in for convolutions (He et al., 2015, so that a ReLU keeps the variance) and
    1 / fan-in for the linear classifier, which no ReLU follows; biases are 0, batch-norm starts as the identity.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
