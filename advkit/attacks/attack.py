"""What an attack is, and what modifies one: functions that own their parameters.

The parameters of a method are the keyword-only arguments of its function: their names, types and defaults stand there
and nowhere else. The command line, the manual's table and the tests read them from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from torch import Tensor

from advkit.metrics.norms import Norm

Value = int | float | str | None
GENERAL = ("steps", "step_size", "random_start", "restarts", "loss")


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method: its default, and the smallest and largest value that make sense."""

    name: str
    default: Value
    low: float
    high: float
    whole: bool


class _Parametrised:
    """What attacks and modifiers have in common."""

    function: Callable[..., Any]
    limits: Mapping[str, tuple[float, float]]

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """The function's keyword-only arguments."""
        found = {}
        for name, one in inspect.signature(self.function).parameters.items():
            if one.kind is inspect.Parameter.KEYWORD_ONLY and name in self.limits:
                low, high = self.limits[name]
                found[name] = Parameter(name, one.default, low, high, "int" in str(one.annotation))
        return found


@dataclass(frozen=True)
class Attack(_Parametrised):
    """A whole attack.

    Attributes:
        name: for ``--method``.
        summary: one line, with its paper.
        function: ``(objective, batch, params, *, own parameters) -> (N, C, H, W)``: images inside the budget.
        limits: smallest and largest sensible value of each own parameter.
        norms: that it can bound.
        idle: own parameters without effect in a norm.
        uses: those of :data:`GENERAL` that have an effect.
        loss: what it maximises unless told otherwise; empty when it follows none.
        gradients: whether it needs them.
        minimal_norm: whether it looks for the smallest perturbation and needs no eps.
        base: whether modifiers compose with it.
        logits: whether it needs the logits of classes of which an image has one.
        chooses_targets: whether it aims at classes by itself, so that none can be given.
        worst_case: whether it stops on fooled images whatever the goal.
    """

    name: str
    summary: str
    function: Callable[..., Tensor]
    limits: Mapping[str, tuple[float, float]]
    norms: tuple[Norm, ...] = ("linf", "l2", "l1")
    idle: Mapping[Norm, tuple[str, ...]] = field(default_factory=dict)
    uses: tuple[str, ...] = GENERAL
    loss: str = "ce"
    gradients: bool = True
    minimal_norm: bool = False
    base: bool = False
    logits: bool = False
    chooses_targets: bool = False
    worst_case: bool = False


@dataclass(frozen=True)
class Modifier(_Parametrised):
    """A part of the iterative attack that can be taken in or left out.

    Attributes:
        name, summary, function, limits: as of :class:`Attack`.
        hook: where it works. ``look_ahead`` (x, momentum, length) is the point at which gradients are taken; ``mix``
            (images, indices, seed, stream, pool) puts something of another image into it; ``copies`` (x, copy) makes
            one of several scaled copies; ``view`` (images, indices, seed, stream) is what networks see; ``backward``
            (losses, x) marks the graph of a gradient that is about to be taken; ``variance`` (x, indices, seed, stream,
            eps, norm) gives points around x, whose gradients less that at x correct the next one; ``filter`` (gradient)
            and ``accumulate`` (gradient, momentum) make a direction of a gradient.
        copies: the parameter that says of how many views gradients are averaged; empty for one.
        brings: another modifier that comes along, with parameters of the same names.
    """

    name: str
    summary: str
    function: Callable[..., Any]
    limits: Mapping[str, tuple[float, float]]
    hook: Literal["look_ahead", "mix", "copies", "view", "backward", "variance", "filter", "accumulate"]
    brings: str | None = None
    copies: str = ""
