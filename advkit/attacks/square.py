"""Square: random search over squares of full perturbation, without gradients (Andriushchenko et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from advkit.attacks.attack import Attack
from advkit.attacks.budget import LEVELS, project, quantize
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.data import counter_rng
from advkit.metrics.norms import flat_norm, per_image

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries of 10,000 at which the square halves
_SCHEDULE = 10_000
_MOST_AHEAD = 32  # queries of an image in one pass
_L1_SHARES = 3.0  # times its share of an L1 budget that a moved bump has: projected, the smallest entries vanish
_L1_ROUNDING = 1e-4  # of eps: what roundings leave of an L1 budget is no room
_BLOCK = 256  # queries that are planned together


def square(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    queries: int = 5000,
    p_init: float = 0.8,
    rescale: int = 1,
) -> Tensor:
    """The best image (N, C, H, W) found for each of ``batch`` with ``queries`` looks at the surrogates that count.

    ``p_init`` is the part of the image that the first square covers: 0.8 as in AutoAttack (Croce and Hein 2020). With
    ``rescale`` the schedule of 10,000 queries by which squares shrink is fitted to ``queries``; with 0 its beginning is
    taken, as AutoAttack does. Images leave once they are fooled, whose loss then counts as infinite, unless the goal is
    transfer.
    """
    best, best_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=best.device)
    for restart in range(params.restarts):
        part = batch.take(places)
        images, losses = _run(objective, part, params, restart, queries, p_init, _SCHEDULE if not rescale else queries)
        better = losses > best_loss[places]
        best[places[better]], best_loss[places[better]] = images[better], losses[better]
        if params.goal == "robustness":
            places = places[~torch.isposinf(best_loss[places])]
    return best


def _run(
    objective: Objective, batch: Batch, params: AttackParams, restart: int, queries: int, p_init: float, schedule: int
) -> tuple[Tensor, Tensor]:
    """One random search: images and losses, both as judged.

    Most queries change nothing. Where few images are left, several queries of each are therefore looked at in one pass,
    all from the same point; those after the first that is better are thrown away and asked anew from there, so that
    what comes out is what one query after the other would give.
    """
    reached, reached_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=reached.device)
    plan = _Plan(restart, schedule, p_init, batch.images)
    x, loss = batch.images, reached_loss
    query = torch.full_like(places, -1)  # the next one of each image
    ahead = 1
    while len(places):
        first = int(query[0])  # up to the first square all images are at the same one
        if first < 0:  # an image that is wrong already stays as it is
            part, asked, candidate = batch, query, batch.images
        elif first == 0:
            drawn = counter_rng.stream("square start", restart)
            start = _stripes if params.norm == "linf" else _bumps
            part, asked, candidate = batch, query, _inside(start(batch, params, drawn), batch, params)
            loss = torch.full_like(loss, -torch.inf)
        else:
            rows = torch.arange(len(places), device=x.device).repeat_interleave(ahead)
            asked = (query[:, None] + torch.arange(ahead, device=x.device)).flatten()
            part, propose = batch.take(rows), _linf_square if params.norm == "linf" else _moved_bump
            candidate = _inside(propose(x[rows], part, params, plan, asked), part, params)
        hit, losses, _ = objective.verdict(objective.outputs(candidate), candidate, part)
        losses = objective.comparable(losses)
        if params.goal == "robustness":
            losses = torch.where(hit, torch.inf, losses)
        losses = torch.where(asked < queries, losses, -torch.inf).view(len(places), -1)
        better = losses > loss[:, None]
        any_better, chosen = better.any(1), better.int().max(1).indices
        chosen_row = torch.arange(len(places), device=x.device) * losses.shape[1] + chosen
        x = torch.where(per_image(any_better), candidate[chosen_row], x)
        loss = torch.where(any_better, losses.flatten()[chosen_row], loss)
        gained = loss > reached_loss[places]
        reached[places[gained]], reached_loss[places[gained]] = x[gained], loss[gained]
        used = torch.where(any_better, chosen + 1, losses.shape[1])
        query = query + used
        left = query < queries
        if params.goal == "robustness":
            left &= ~torch.isposinf(loss)
        useful = 2.0 * float(used.float().mean())
        if not bool(left.all()):
            batch, places, x, loss, query = batch.take(left), places[left], x[left], loss[left], query[left]
        if params.norm == "linf" and first > 0:
            ahead = max(1, min(int(useful), _MOST_AHEAD, objective.at_once // max(1, len(places))))
    return reached, reached_loss


class _Plan:
    """What is fixed beforehand of every query: the side of its square, and the streams of its random numbers."""

    def __init__(self, restart: int, schedule: int, p_init: float, images: Tensor) -> None:
        self._restart, self._schedule, self._p_init, self._images = restart, schedule, p_init, images
        self._known: dict[str, Tensor] = {}

    def sides(self, query: Tensor) -> Tensor:
        """(N,) int64, in pixels."""
        return self._looked_up(query, "side", self._sides)

    def streams(self, purpose: str, query: Tensor) -> Tensor:
        """(N,) int64, see :func:`advkit.data.counter_rng.streams`."""
        return self._looked_up(
            query, purpose, lambda asked: counter_rng.streams(purpose, [(self._restart, one) for one in asked])
        )

    def _sides(self, asked: range) -> Tensor:
        return torch.tensor([square_side(one, self._schedule, self._p_init, self._images) for one in asked])

    def _looked_up(self, query: Tensor, name: str, make: Callable[[range], Tensor]) -> Tensor:
        known = self._known.get(name, torch.empty(0, dtype=torch.int64, device=query.device))
        wanted = int(query.max()) + 1
        if wanted > len(known):
            fresh = make(range(len(known), wanted + _BLOCK)).to(known.device)
            known = self._known[name] = torch.cat([known, fresh])
        return known[query]


def square_side(query: int, queries: int, p_init: float, x: Tensor) -> int:
    """Side in pixels of the square changed by ``query``: its share of the image falls along a fixed schedule."""
    halved = sum(10_000 * query / queries > bound for bound in _HALVINGS)
    height, width = x.shape[-2:]
    side = round(math.sqrt(p_init / 2**halved * height * width))
    return max(1, min(side, height - 1, width - 1))


def _inside(x: Tensor, batch: Batch, params: AttackParams) -> Tensor:
    """``x`` cut to [0, 1], and to the levels of 8 bits where those are asked for."""
    x = x.clamp(0.0, 1.0)
    return quantize(x, batch.images, params.eps, params.norm).to(x.dtype) / LEVELS if params.quantize else x


def _corners(batch: Batch, params: AttackParams, side: Tensor, stream: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) top rows and left columns of a square of ``side`` (N,) for each image."""
    height, width = batch.images.shape[-2:]
    drawn = counter_rng.uniform(params.seed, batch.indices, stream, 2)
    return (drawn[:, 0] * (height - side + 1)).long(), (drawn[:, 1] * (width - side + 1)).long()


def _window(batch: Batch, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
    """(N, 1, H, W) bool: the pixels of each image's square."""
    height, width = batch.images.shape[-2:]
    row, column = (torch.arange(length, device=top.device) for length in (height, width))
    rows = (row >= top[:, None]) & (row < (top + side)[:, None])
    columns = (column >= left[:, None]) & (column < (left + side)[:, None])
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def _stripes(batch: Batch, params: AttackParams, stream: int) -> Tensor:
    """Vertical stripes of +eps and -eps, drawn for each column and channel."""
    count, channels, _, width = batch.images.shape
    drawn = counter_rng.signs(params.seed, batch.indices, stream, channels * width)
    return batch.images + params.eps * drawn.view(count, channels, 1, width)


def _linf_square(x: Tensor, batch: Batch, params: AttackParams, plan: _Plan, query: Tensor) -> Tensor:
    """``x`` with one square per image set to the clean pixels plus or minus eps, one sign for each channel."""
    count, channels = x.shape[:2]
    side = plan.sides(query)
    inside = _window(batch, *_corners(batch, params, side, plan.streams("square filled", query)), side)
    stream = plan.streams("square signs", query)
    drawn = counter_rng.signs(params.seed, batch.indices, stream, channels).view(count, channels, 1, 1)
    return torch.where(inside, batch.images + params.eps * drawn, x)


def bump(side: int, like: Tensor) -> Tensor:
    """(side, side) of unit length: a positive and a negative pyramid of rectangles, one above the other."""

    def pyramid(height: int, width: int) -> Tensor:
        rows, columns = (torch.arange(length, device=like.device, dtype=like.dtype) for length in (height, width))
        away = torch.maximum((rows - height // 2).abs()[:, None], (columns - width // 2).abs()[None, :])
        layers = max(height // 2, width // 2) + 1
        steps = 1.0 / torch.arange(1, layers + 2, device=like.device, dtype=like.dtype).square()
        heights = steps.flip(0).cumsum(0).flip(0)  # a pixel lies on all rectangles from its own outwards
        found = heights[away.long()]
        return torch.nn.functional.normalize(found.flatten(), dim=0).view_as(found)

    upper = side // 2
    found = torch.cat([pyramid(upper, side), -pyramid(side - upper, side)]) if upper else like.new_ones(1, side)
    return torch.nn.functional.normalize(found.flatten(), dim=0).view_as(found)


def _bumps(batch: Batch, params: AttackParams, stream: int) -> Tensor:
    """A grid of five by five bumps of random sign in each channel, of length eps."""
    count, channels, height, width = batch.images.shape
    side = max(1, min(height, width) // 5)
    rows, columns = height // side, width // side
    drawn = counter_rng.signs(params.seed, batch.indices, stream, channels * rows * columns)
    signs = drawn.view(count, channels, rows, 1, columns, 1)
    tiles = (signs * bump(side, batch.images).view(1, 1, 1, side, 1, side)).reshape(
        count, channels, rows * side, columns * side
    )
    delta = torch.zeros_like(batch.images)
    delta[:, :, : rows * side, : columns * side] = tiles
    return batch.images + _of_length(delta, batch.images, params)


def _moved_bump(x: Tensor, batch: Batch, params: AttackParams, plan: _Plan, query: Tensor) -> Tensor:
    """``x`` with the perturbation of one square moved to another: that one's, and what the budget has left.

    A square that is emptied gives its share of the norm to the one that is filled with a bump beside what lay there.
    All images are at the same query; the norm is L2, or L1 (Croce and Hein 2021).
    """
    count, channels = x.shape[:2]
    side = int(plan.sides(query[:1]))
    side = min(max(3, side + 1 - side % 2), min(x.shape[-2:]))
    sides = torch.full_like(query, side)
    delta = x - batch.images
    top, left = _corners(batch, params, sides, plan.streams("square filled", query))
    filled = _window(batch, top, left, sides)
    emptied = _window(batch, *_corners(batch, params, sides, plan.streams("square emptied", query)), sides)
    stream = plan.streams("square signs", query)
    drawn = counter_rng.uniform(params.seed, batch.indices, stream, channels + 1)
    signs = torch.where(drawn[:, :channels] < 0.5, -1.0, 1.0).view(count, channels, 1, 1)
    shape = bump(side, x)
    shape = shape / shape.abs().sum() if params.norm == "l1" else shape
    shapes = torch.where(per_image(drawn[:, channels] < 0.5), shape.T, shape)
    least = 1e-3 * params.eps if params.norm == "l1" else 1e-12  # crumbs of roundings are not what lay there
    old = _lengths(delta * filled, params).clamp_min(least)
    fresh = _placed(signs * shapes, top, left, x) + torch.where(filled, delta / old, 0.0)
    fresh = fresh / _lengths(fresh, params).clamp_min(1e-12)
    freed, used = (delta * (filled | emptied)).flatten(2), flat_norm(delta, params.norm)
    if params.norm == "l2":
        room = (params.eps**2 - used.square()).clamp_min(0.0)[:, None] / channels
        length = (freed.square().sum(2) + room).sqrt()
    else:
        left = params.eps - used
        room = torch.where(left > _L1_ROUNDING * params.eps, left, 0.0)[:, None] / channels
        length = _L1_SHARES * (freed.abs().sum(2) + room)
    delta = torch.where(filled, fresh * length.view(count, channels, 1, 1), delta * ~emptied)
    return batch.images + _of_length(delta, batch.images, params)


def _placed(tiles: Tensor, top: Tensor, left: Tensor, like: Tensor) -> Tensor:
    """``tiles`` (N, C, s, s) at each image's corner in maps of zeros shaped as ``like``."""
    count, channels, side = tiles.shape[:3]
    found, step = torch.zeros_like(like), torch.arange(side, device=like.device)
    image = torch.arange(count, device=like.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=like.device).view(1, -1, 1, 1)
    rows, columns = (top[:, None] + step).view(-1, 1, side, 1), (left[:, None] + step).view(-1, 1, 1, side)
    found[image, channel, rows, columns] = tiles
    return found


def _lengths(delta: Tensor, params: AttackParams) -> Tensor:
    """(N, C, 1, 1) norms of each channel of ``delta``."""
    rows = delta.flatten(2)
    return (rows.norm(dim=2) if params.norm == "l2" else rows.abs().sum(2)).view(*delta.shape[:2], 1, 1)


def _of_length(delta: Tensor, images: Tensor, params: AttackParams) -> Tensor:
    """``delta`` scaled so that each image's has length eps; in L1 the nearest in the ball and the box."""
    if params.norm == "l1":
        return project(delta, images, params.eps, "l1")
    return delta * per_image(params.eps / flat_norm(delta, "l2").clamp_min(1e-12))


SQUARE = Attack(
    "square",
    "random search over squares (Andriushchenko et al. 2020)",
    square,
    {"queries": (1, 1_000_000), "p_init": (1e-4, 1.0), "rescale": (0, 1)},
    uses=("loss", "restarts"),
    loss="margin",
    gradients=False,
)
