"""Batch-norm folded into the convolution or linear layer before it: the same function, fewer passes over memory."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, fx, nn

from advkit.models.network import Network

_WEIGHTED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm1d)


def fold_pairs(net: nn.Module) -> list[tuple[str, str]]:
    """Names (layer, norm) of all pairs in which the norm is the layer's only reader and each runs once.

    Empty when ``net`` can't be traced: folding is then given up, never guessed.
    """
    try:
        graph = fx.Tracer().trace(net)
    except Exception:  # tracing runs foreign code, which may raise anything
        return []
    calls: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)] = calls.get(str(node.target), 0) + 1
    pairs = []
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        layer_name, norm_name = str(before.target), str(node.target)
        layer, norm = net.get_submodule(layer_name), net.get_submodule(norm_name)
        once = calls[layer_name] == calls[norm_name] == 1
        if once and type(layer) in _WEIGHTED and _is_foldable(norm):
            pairs.append((layer_name, norm_name))
    return pairs


def _is_foldable(norm: nn.Module) -> bool:
    # By class name and not by type: training may have replaced it by its synchronised kind.
    return isinstance(norm, _NORMS) and norm.affine and norm.running_mean is not None and not list(norm.children())


def fold_weights(layer: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of the folded layer, differentiable in the weights of both; statistics are constants."""
    layer, norm = cast(nn.Conv2d, layer), cast(nn.BatchNorm2d, norm)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var.detach() + norm.eps)
    weight = layer.weight * scale.view(-1, *[1] * (layer.weight.ndim - 1))
    mean = norm.running_mean.detach().clone()  # a later training step updates the buffer in place
    bias = norm.bias - mean * scale
    return weight, bias if layer.bias is None else bias + layer.bias * scale


def folded_skeleton(net: nn.Module) -> nn.Module:
    """A copy of ``net`` whose folded norms are gone and whose layers before them have a bias; weights are not folded."""
    skeleton = copy.deepcopy(net)
    for layer_name, norm_name in fold_pairs(net):
        layer = cast(nn.Conv2d, skeleton.get_submodule(layer_name))
        if layer.bias is None:
            layer.bias = nn.Parameter(layer.weight.new_zeros(layer.weight.shape[0]))
        _replace(skeleton, norm_name, nn.Identity())
    return skeleton


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, module)


def folded(network: Network) -> Network:
    """``network`` in eval mode, frozen, folded and in channels-last layout; the given one stays as it is."""
    skeleton = folded_skeleton(network.net)
    with torch.no_grad():
        for layer_name, norm_name in fold_pairs(network.net):
            weight, bias = fold_weights(network.net.get_submodule(layer_name), network.net.get_submodule(norm_name))
            layer = cast(nn.Conv2d, skeleton.get_submodule(layer_name))
            layer.weight.copy_(weight)
            assert layer.bias is not None
            layer.bias.copy_(bias)
    result = Network(skeleton, network.spec).to(network.mean.device)
    return result.to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload, no-any-return]
