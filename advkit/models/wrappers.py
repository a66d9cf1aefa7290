"""Wrappers around a model's own module, which its user never named."""

from __future__ import annotations

from torch import nn

from advkit.models.detectors.subset import DetectorSubset
from advkit.models.heads import ClassSubset
from advkit.models.network import Network
from advkit.models.one_logit import OneLogit
from advkit.models.resized import Resized


def own_module(network: Network) -> nn.Module:
    """The module that ``network`` was made of, whose layers have the names that its maker gave them.

    Around it may lie a resize, a choice of its classes, and a second logit.
    """
    net = network.net
    while isinstance(net, Resized | DetectorSubset | ClassSubset | OneLogit):
        net = net.net
    return net
