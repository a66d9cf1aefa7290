"""Other classes than a network was trained for: some of its own, by name, or a head made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models import build, infer
from advkit.models.config import ModelConfig, is_nameless
from advkit.models.detectors.subset import DetectorSubset
from advkit.models.network import Network


class ClassSubset(nn.Module):
    """``net`` with some of its logits.

    Attributes:
        net: from (N, C, H, W) to (N, K).
        classes: (M,) int64, which of the K to give, in this order.
    """

    classes: Tensor

    def __init__(self, net: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("classes", torch.tensor(classes, dtype=torch.int64), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, M) logits."""
        logits: Tensor = self.net(images)
        return logits[:, self.classes]


def select_classes(network: Network, names: Sequence[str]) -> Network:
    """``network`` for the classes ``names`` alone, in their order, and a note that says so. Its identity stays.

    Raises:
        InputError: a name that it doesn't have.
    """
    spec = network.spec
    missing = [name for name in names if name not in spec.labels]
    if missing:
        raise InputError(f"{spec.ref}: has no class {missing[0]!r}; use data of its classes")
    note = f"of its {spec.num_classes} classes the {len(names)} of the data count, found by name"
    if len(names) == spec.num_classes:
        note = "its classes are brought into the order of the data's, by name"
    kind = DetectorSubset if spec.task == "detection" else ClassSubset
    subset = kind(network.net, [spec.labels.index(name) for name in names])
    changed = replace(spec, num_classes=len(names), labels=tuple(names), notes=(*spec.notes, note))
    return Network(subset, changed).to(network.mean.device).train(network.training).requires_grad_(False)


def with_classes(network: Network, names: Sequence[str], seed: int) -> Network:
    """``network`` if it is for the classes ``names``, which it takes if it has none; else with another head.

    Raises:
        InputError: as :func:`reset_head`.
    """
    spec, names = network.spec, tuple(names)
    if spec.num_classes == len(names) and (not spec.labels or is_nameless(spec.labels) or is_nameless(names)):
        network.spec = replace(spec, labels=spec.labels or names)
        return network
    return network if spec.labels == names else reset_head(network, names, seed)


def reset_head(network: Network, names: Sequence[str], seed: int) -> Network:
    """A copy of ``network`` for the classes ``names``: what it has of the same name is kept, the rest is fresh.

    Raises:
        InputError: a network whose head can't be told from the rest.
    """
    spec, device = network.spec, network.mean.device

    def make(classes: int) -> nn.Module:
        return build.construct(spec.architecture, classes, spec.input_size, dict(spec.model_args))

    own = network.net.state_dict()
    outline = infer.meta_init(lambda: make(spec.num_classes + 1)).state_dict()
    head = [name for name, tensor in own.items() if name in outline and outline[name].shape != tensor.shape]
    offset = getattr(network.net, "label_offset", 0)  # rows before those of the classes, of a detector's background
    rows = spec.num_classes + offset  # at each anchor of a detector
    if not head or set(own) != set(outline) or any(own[name].shape[0] % rows for name in head):
        raise InputError(f"{spec.ref}: its head can't be told from the rest, so it can't get other classes")
    net = build.seeded(lambda: make(len(names)), seed).to(device)
    known = () if is_nameless(spec.labels) else spec.labels  # numbers are no names
    kept = [(new, known.index(name)) for new, name in enumerate(names) if name in known]
    state = net.state_dict()
    for name, tensor in own.items():
        if name not in head:
            state[name] = tensor
            continue
        old_rows, new_rows = (
            tensor.view(-1, rows, *tensor.shape[1:]),
            state[name].view(-1, len(names) + offset, *tensor.shape[1:]),
        )
        new_rows[:, :offset] = old_rows[:, :offset]
        for new, old in kept:
            new_rows[:, offset + new] = old_rows[:, offset + old]
    net.load_state_dict(state)
    config = ModelConfig(len(names), spec.input_size, spec.mean, spec.std, tuple(names), spec.crop)
    result = build.assemble(net, spec.ref, spec.architecture, config, spec.model_args)
    note = f"the head is made anew for {len(names)} classes instead of {spec.num_classes}: {len(kept)} kept by name"
    result.spec = replace(result.spec, notes=(*spec.notes, note))
    return result.to(device).train(network.training).requires_grad_(False)
