"""Which class a targeted attack on a classifier aims at."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.tasks.task import FROM_DATA

RULES = ("next", "random", "least-likely", FROM_DATA)


def parse_target(text: str, class_names: tuple[str, ...]) -> str | int:
    """A rule's name, or a class number from its name or number.

    Raises:
        InputError: neither.
    """
    if text in RULES:
        return text
    if text in class_names:
        return class_names.index(text)
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    some = ", ".join(class_names[:5])
    raise InputError(f"--target {text}: no such class ({some}, …) and no rule ({', '.join(RULES)})")


def targets(
    rule: str | int, labels: Tensor, indices: Tensor, logits: Callable[[], Tensor], num_classes: int, seed: int
) -> Tensor:
    """(N,) int64 classes to aim at, never the true one for a rule.

    Args:
        rule: from :func:`parse_target`: a fixed class; ``next`` in number; ``random`` by seed and image;
            ``least-likely`` for the surrogates. ``from-data`` is what the data say, which the caller has.
        labels, indices: (N,) int64.
        logits: gives (N, K) of the surrogates on the clean images; called by ``least-likely`` alone.
        num_classes: K.
        seed: of ``random``.
    """
    if isinstance(rule, int):
        return torch.full_like(labels, rule)
    if rule == "next":
        return (labels + 1) % num_classes
    if rule == "random":
        step = (
            counter_rng.uniform(seed, indices, counter_rng.stream("target"), 1).squeeze(1) * (num_classes - 1)
        ).long()
        return (labels + 1 + step) % num_classes
    return logits().scatter(1, labels[:, None], float("inf")).argmin(1)
