"""Survival and parent selection by several objectives, every one of them minimised.

Sorting, crowding and survival are those of NSGA-II (Deb, Pratap, Agarwal, Meyarivan, 2002) with its constrained
domination; ageing is that of regularised evolution (Real, Aggarwal, Huang, Le, 2019). All functions are pure, and all
but the tournament decide ties by position, so a population means the same wherever and whenever it is ranked.

Throughout, ``objectives`` is (N, M) float, finite, or +inf for a candidate that **failed**: such a candidate ranks
behind every other whatever its violation. ``violations`` is (N) float: by how much a candidate misses the constraint;
0 or less is feasible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def fronts(objectives: ArrayLike, violations: ArrayLike) -> list[Indices]:
    """Non-dominated fronts under constrained domination, the best first.

    A feasible candidate dominates an infeasible one, a smaller violation a larger one; between equal violations one
    dominates that is nowhere worse and somewhere better. Equal candidates share a front.

    Returns:
        Positions, ascending within a front; each of the N once.

    Raises:
        ValueError: shapes that don't fit, NaN, or an objective of −inf.
    """
    values, misses = _checked(objectives, violations)
    failed = ~np.isfinite(values).all(axis=1)
    found = []
    for level in np.unique(np.column_stack([failed, misses]), axis=0):
        left = np.flatnonzero((failed == level[0]) & (misses == level[1]))
        dominates = _dominates(values[left])
        while len(left):
            first = ~dominates.any(axis=0)
            found.append(left[first])
            left, dominates = left[~first], dominates[np.ix_(~first, ~first)]
    return found


def crowding(objectives: ArrayLike) -> Floats:
    """(N) crowding distances of one front: how far apart a candidate's neighbours are, summed over the objectives.

    Each objective counts in units of its range over the front, and its two ends are infinitely far from anything. An
    objective that is equal everywhere tells nobody apart and adds nothing. Failed candidates get 0.
    """
    values, _ = _checked(objectives, None)
    distances = np.zeros(len(values))
    sound = np.isfinite(values).all(axis=1)
    distances[sound] = np.sum([_gaps(column) for column in values[sound].T], axis=0)
    return distances


def ranking(objectives: ArrayLike, violations: ArrayLike) -> tuple[Indices, Floats]:
    """What :func:`tournament` compares: (N) the number of each candidate's front, from 0, and (N) its crowding."""
    values = np.asarray(objectives, dtype=float)
    ranks, distances = np.zeros(len(values), dtype=np.intp), np.zeros(len(values))
    for number, front in enumerate(fronts(values, violations)):
        ranks[front], distances[front] = number, crowding(values[front])
    return ranks, distances


def survivors(objectives: ArrayLike, violations: ArrayLike, count: int) -> Indices:
    """The ``count`` candidates that NSGA-II keeps: whole fronts, then the least crowded of the one that must be split.

    Returns:
        Positions, front by front, ascending within a front; all N where there are no more than ``count``.
    """
    _at_least(0, count, "count")
    values = np.asarray(objectives, dtype=float)
    kept: list[Indices] = []
    for front in fronts(values, violations):
        room = count - sum(map(len, kept))
        if len(front) > room:
            front = np.sort(front[np.argsort(-crowding(values[front]), kind="stable")[:room]])
        kept.append(front)
    return np.concatenate(kept) if kept else np.zeros(0, dtype=np.intp)


def tournament(
    rng: np.random.Generator, ranks: ArrayLike, crowding_or_none: ArrayLike | None, size: int, draws: int
) -> Indices:
    """The winners of ``draws`` tournaments between ``size`` different candidates each (all N where N is smaller).

    The lower rank wins, then the larger crowding distance, then whoever was drawn first: ties favour no position.

    Args:
        rng: the only source of chance.
        ranks: (N) numbers of fronts, or any scalar to be minimised; +inf for failed.
        crowding_or_none: (N) crowding distances; None: ranks alone decide.
        size: contestants, at least 1; 1 draws at random, more press harder for the best.
        draws: how many winners to return; one candidate can win several times.

    Raises:
        ValueError: nobody to draw from, shapes that don't fit, NaN, ``size`` below 1 or ``draws`` below 0.
    """
    order = np.asarray(ranks, dtype=float)
    spread = np.zeros_like(order) if crowding_or_none is None else np.asarray(crowding_or_none, dtype=float)
    if order.ndim != 1 or not len(order) or spread.shape != order.shape:
        raise ValueError(
            f"ranks of {order.shape} and crowding of {spread.shape} are no two lists of one length above 0"
        )
    if np.isnan(order).any() or np.isnan(spread).any():
        raise ValueError("ranks or crowding distances hold NaN")
    _at_least(1, size, "size")
    _at_least(0, draws, "draws")
    keys = np.column_stack([order, -spread])
    places = np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
    drawn = rng.random((draws, len(order))).argsort(axis=1)[:, :size]
    winners: Indices = drawn[np.arange(draws), places[drawn].argmin(axis=1)]
    return winners


def pareto(objectives: ArrayLike, violations: ArrayLike) -> Indices:
    """Positions of the first front by ascending first objective, then the second and so on, then position.

    Where nobody is feasible these are the least violating candidates. Failed ones are never among them.
    """
    values, _ = _checked(objectives, violations)
    front = next(iter(fronts(values, violations)), np.zeros(0, dtype=np.intp))
    front = front[np.isfinite(values[front]).all(axis=1)]
    return front[np.lexsort(values[front].T[::-1])]


def hypervolume_2d(objectives: ArrayLike, reference: ArrayLike) -> float:
    """Area between ``reference`` and what (N, 2) ``objectives`` dominate (Zitzler, Thiele, 1998).

    Candidates that don't beat the reference in both objectives, failed ones among them, add nothing.
    """
    values, _ = _checked(objectives, None)
    corner = np.asarray(reference, dtype=float)
    if values.shape[1] != 2 or corner.shape != (2,) or not np.isfinite(corner).all():
        raise ValueError(
            f"objectives of {values.shape} and reference of {corner.shape} are not (N, 2) and 2 finite numbers"
        )
    area, height = 0.0, corner[1]
    inside = values[(values < corner).all(axis=1)]
    for first, second in inside[np.lexsort(inside.T[::-1])]:
        if second < height:
            area += (corner[0] - first) * (height - second)
            height = second
    return float(area)


def youngest(births: ArrayLike, count: int) -> Indices:
    """The ``count`` youngest: the oldest die, however good they are.

    Args:
        births: (N) when each was born, larger is later; of equals, the one that stands first counts as older.
        count: how many stay; all N where there are no more.

    Returns:
        Positions, ascending.
    """
    _at_least(0, count, "count")
    generation = np.asarray(births, dtype=float)
    if generation.ndim != 1 or np.isnan(generation).any():
        raise ValueError(f"births of {generation.shape} are no list of numbers")
    oldest_first = np.argsort(generation, kind="stable")
    return np.sort(oldest_first[max(len(generation) - count, 0) :])


def _checked(objectives: ArrayLike, violations: ArrayLike | None) -> tuple[Floats, Floats]:
    """Both as arrays; violations below 0 become 0."""
    values = np.asarray(objectives, dtype=float)
    misses = np.zeros(len(values)) if violations is None else np.asarray(violations, dtype=float)
    if values.ndim != 2 or values.shape[1] == 0 or misses.shape != (len(values),):
        raise ValueError(f"objectives of {values.shape} and violations of {misses.shape} are not (N, M) and (N)")
    if np.isnan(values).any() or np.isneginf(values).any() or np.isnan(misses).any():
        raise ValueError("objectives or violations hold NaN or −inf; a failed candidate's objectives are +inf")
    return values, np.maximum(misses, 0.0)


def _at_least(least: int, number: int, name: str) -> None:
    if number < least:
        raise ValueError(f"{name} is {number}; it is at least {least}")


def _dominates(values: Floats) -> NDArray[np.bool_]:
    """(N, N): whether the row's candidate is nowhere worse than the column's, and somewhere better."""
    one, other = values[:, None], values[None]
    return np.asarray((one <= other).all(axis=2) & (one < other).any(axis=2))


def _gaps(column: Floats) -> Floats:
    """(N) distance between the two neighbours of each value, in units of the range; +inf at the ends."""
    span = np.ptp(column) if len(column) else 0.0
    gaps = np.zeros(len(column))
    if span > 0:
        order = np.argsort(column, kind="stable")
        gaps[order[1:-1]] = (column[order[2:]] - column[order[:-2]]) / span
        gaps[order[[0, -1]]] = np.inf
    return gaps
