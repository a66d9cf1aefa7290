"""SGM: less of the gradient through residual branches, all of it along the skips (Wu et al. 2020).

Nothing is hung on modules. The backward pass of one gradient is marked in its own graph, which leaves with it, so that
any network whose skips are additions or concatenations is served, batch-norm folded or not, and no hook is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

from advkit.attacks.attack import Modifier

_PRODUCTS = ("convolution", "mm", "linear", "attention")  # in names of nodes: what has weights


def reduce_branches(losses: Tensor, x: Tensor, *, gamma: float = 0.5) -> None:
    """Multiply by ``gamma`` what the gradient of ``losses`` by ``x`` gets through each residual branch.

    Inside a branch's branch that happens twice. 0.5 is the default of the authors' code; they also take 0.2. That code
    does it at the ReLUs inside of a branch, a root of gamma at each of several, and leaves the first block of every
    stage of a ResNet alone; here it is done where a branch ends, whatever is in it, at every branch.

    Args:
        losses: (N,) with their graph; a graph serves one backward pass.
        x: (N, C, H, W), a leaf.
        gamma: 1 changes nothing, 0 leaves the skips alone.
    """
    for node, places in branches(losses, x).items():
        node.register_hook(_times(gamma, places))


def _times(gamma: float, places: list[int]) -> Callable[[Any, Any], tuple[Any, ...]]:
    def hook(inwards: tuple[Tensor | None, ...], _: object) -> tuple[Tensor | None, ...]:
        return tuple(one * gamma if place in places and one is not None else one for place, one in enumerate(inwards))

    return hook


def branches(losses: Tensor, x: Tensor) -> dict[Node, list[int]]:
    """The additions and concatenations behind ``losses`` that end a residual branch, and which operands those are.

    Two operands are held against the last value that both were made of. In an addition the branch is the one with more
    products with weights in a row (convolutions, matrices), if the other, the skip, has one (a projection) or none; a
    branch that comes back from a smaller map is a pyramid's. In a concatenation a skip is that value itself.

    Args:
        losses: (N,) with their graph.
        x: (N, C, H, W), a leaf.
    """
    found: dict[Node, list[int]] = {}
    source = get_gradient_edge(x).node
    before, depth = {source: source}, {source: 0}  # the last value that all paths to a node come through
    products, enlarged = {source: 0}, {source: 0}  # how many at most on one path from x
    for node in _inputs_first(losses):
        operands = [(place, one) for place, (one, _) in enumerate(node.next_functions) if one in before]
        if not operands:
            continue  # weights, or x itself
        fork, name = operands[0][1], node.name().lower()
        for _, one in operands[1:]:
            fork = _meet(fork, one, before, depth)
        before[node], depth[node] = fork, depth[fork] + 1
        products[node] = max(products[one] for _, one in operands) + any(word in name for word in _PRODUCTS)
        enlarged[node] = max(enlarged[one] for _, one in operands) + ("upsample" in name)
        if len(operands) < 2:
            continue
        ends: list[int] = []
        if name.startswith("addbackward"):
            skip, branch = sorted(operands, key=lambda operand: products[operand[1]])
            skipped, passed = products[skip[1]] - products[fork], products[branch[1]] - products[fork]
            if skipped <= 1 and passed > skipped and enlarged[branch[1]] == enlarged[fork]:
                ends = [branch[0]]
        elif name.startswith("catbackward") and any(one is fork for _, one in operands):
            ends = [place for place, one in operands if products[one] > products[fork]]
        if ends:
            found[node] = ends
    return found


def _inputs_first(losses: Tensor) -> list[Node]:
    """The nodes of the graph of ``losses``, each behind all that it is made of."""
    order: list[Node] = []
    seen: set[Node] = set()
    left: list[tuple[Node, bool]] = [(losses.grad_fn, False)] if losses.grad_fn is not None else []
    while left:
        node, done = left.pop()
        if done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            left.append((node, True))
            left += [(one, False) for one, _ in node.next_functions if one is not None and one not in seen]
    return order


def _meet(one: Node, other: Node, before: dict[Node, Node], depth: dict[Node, int]) -> Node:
    while one is not other:
        if depth[one] >= depth[other]:
            one = before[one]
        else:
            other = before[other]
    return one


def has_branches(losses: Tensor, x: Tensor) -> bool:
    """Whether any gradient of ``losses`` by ``x`` comes through a residual branch; also where there is none at all."""
    return not losses.requires_grad or bool(branches(losses, x))


SGM = Modifier(
    "sgm",
    "less gradient through residual branches than along skips (Wu et al. 2020)",
    reduce_branches,
    {"gamma": (0.0, 1.0)},
    "backward",
)
