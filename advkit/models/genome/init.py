"""Fresh weights for a genome's network, such that deep ones without norms train too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import torch
from torch import nn

from advkit.models.genome.shapes import ShapePlan, Step
from advkit.models.nets.initialise import kaiming

# E[f(z)^2] for z of the standard normal distribution.
_SECOND_MOMENT = {"relu": 0.5, "leaky": 0.505, "silu": 0.3556, "gelu": 0.4252}


def initialise(net: nn.Module, shapes: ShapePlan) -> None:
    """Draw the weights of ``net`` from the global random state.

    He et al., 2015, and where no norm follows each convolution is scaled to give unit variance, by second moments
    reckoned along the graph as if its maps were independent. The last convolution of a residual branch without norm
    starts at 1 / (1 + the number of such branches), so that depth doesn't make the sum grow (after Zhang, Dauphin, Ma,
    "Fixup initialization", 2019).
    """
    kaiming(net)
    moments = {0: _SECOND_MOMENT[shapes.genome.stem.activation]}
    if shapes.genome.stem.norm == "none":
        _scale(net.get_submodule("stem"), [1.0])
    small = 1 / (1 + sum(_free_residual(step) for step in shapes.steps))
    for step in shapes.steps:
        moment = _merged(step, moments, shapes)
        if step.convs and step.node.norm == "none":
            block = net.get_submodule(f"nodes.{step.node.id}")
            _scale(block, _incoming(step, moment), small if _free_residual(step) else 1.0)
        moments[step.node.id] = _outgoing(step, moment, small)


def _free_residual(step: Step) -> bool:
    return bool(step.convs) and step.node.norm == "none" and step.node.skip == "residual"


def _scale(layers: nn.Module, moments: Sequence[float], last: float = 1.0) -> None:
    """Unit variance after each convolution, given the second moments of their inputs; ``last`` after the last one."""
    modules = [module for module in layers.children() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        for module, moment in zip(modules, moments, strict=True):
            module.weight.mul_(1 / sqrt(2 * moment))  # kaiming has given 2 / fan-in
        modules[-1].weight.mul_(last)


def _merged(step: Step, moments: Mapping[int, float], shapes: ShapePlan) -> float:
    """Second moment of a step's input: the mean over channels; in a sum, zeros fill the narrower maps."""
    return sum(moments[name] * shapes.maps[name].channels for name in step.node.inputs) / step.merged.channels


def _incoming(step: Step, moment: float) -> list[float]:
    """Second moment of the input of each convolution of a step without norm."""
    activated = _SECOND_MOMENT[step.node.activation]
    return [moment] + [activated if before.last else 1.0 for before in step.convs[:-1]]


def _outgoing(step: Step, moment: float, small: float) -> float:
    node = step.node
    if not step.convs:
        return moment
    branch, before, width = node.channels, step.merged.channels, step.out.channels
    active = _SECOND_MOMENT[node.activation] * (small**2 if _free_residual(step) else 1)
    return active if node.skip == "none" else (active * branch + moment * before) / width
