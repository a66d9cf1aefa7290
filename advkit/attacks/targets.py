"""Which class a targeted attack aims at."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.files.errors import InputError

RULES = ("next", "random", "least-likely", "from-data")


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


def targets(rule: str | int, labels: Tensor, indices: Tensor, logits: Tensor, seed: int) -> Tensor:
    """(N,) int64 classes to aim at, never the true one for a rule.

    Args:
        rule: from :func:`parse_target`: a fixed class; ``next`` in number; ``random`` by seed and image;
            ``least-likely`` for the surrogates. ``from-data`` is what the data say, which the caller has.
        labels, indices: (N,) int64.
        logits: (N, K) of the surrogates on the clean images.
        seed: of ``random``.
    """
    count = logits.shape[1]
    if isinstance(rule, int):
        return torch.full_like(labels, rule)
    if rule == "next":
        return (labels + 1) % count
    if rule == "random":
        step = (counter_rng.uniform(seed, indices, counter_rng.stream("target"), 1).squeeze(1) * (count - 1)).long()
        return (labels + 1 + step) % count
    return logits.scatter(1, labels[:, None], float("inf")).argmin(1)
