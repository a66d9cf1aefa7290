"""Admix: gradients at mixtures of the image with a little of images of other classes (Wang et al. 2021).

The paper takes the other images out of the batch. Here they come from a pool that depends on the data set and the seed
alone, so that neither the batch nor its size, nor a worker, changes what an image is mixed with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.tasks.task import Task

POOL_SIZE = 64


@dataclass(frozen=True)
class Partners:
    """What the images of one batch may be mixed with.

    Attributes:
        images: (P, C, H, W) float32 in [0, 1], the pool.
        allowed: (N, P) bool, at least one for each image: partners of another class than its own.
    """

    images: Tensor
    allowed: Tensor

    def take(self, which: Tensor | slice) -> Partners:
        """For the images at ``which`` (positions, a mask or a slice)."""
        return replace(self, allowed=self.allowed[which])


@dataclass(frozen=True)
class PartnerPool:
    """Clean images of a data set, of two classes or more.

    Attributes:
        images: (P, C, H, W) float32 in [0, 1].
        strata: (P,) int64, their true classes, as :meth:`advkit.tasks.task.Task.strata` has them.
    """

    images: Tensor
    strata: Tensor

    def partners(self, strata: Tensor) -> Partners:
        """For images of ``strata`` (N,), on the device of those."""
        return Partners(self.images.to(strata.device), strata[:, None] != self.strata.to(strata.device))


def partner_pool(data: ImageSet, task: Task, seed: int) -> PartnerPool:
    """At most :data:`POOL_SIZE` images of ``data``, drawn by ``seed``, as many of each class as there are.

    Args:
        data: the images that are attacked.
        task: theirs.
        seed: the run's.

    Raises:
        InputError: images of one class only.
    """
    strata = task.strata(data.targets)
    sizes = torch.bincount(strata)
    if int((sizes > 0).sum()) < 2:
        advice = "take more, or leave it out"
        raise InputError(f"admix: the {len(data)} images of {data.ref} are of one class, with none to mix in; {advice}")
    drawn = counter_rng.uniform(seed, data.indices, counter_rng.stream("admix pool"), 1)[:, 0].argsort(stable=True)
    by_class = drawn[strata[drawn].argsort(stable=True)]
    rank = torch.empty_like(drawn)  # of an image among those of its class
    rank[by_class] = torch.arange(len(drawn)) - (sizes.cumsum(0) - sizes)[strata[by_class]]
    chosen = drawn[rank[drawn].argsort(stable=True)][:POOL_SIZE].sort().values
    return PartnerPool(data.batch(chosen)[0], strata[chosen])


def mixed(
    images: Tensor,
    indices: Tensor,
    seed: int,
    stream: int,
    pool: Partners,
    *,
    partners: int = 3,
    eta: float = 0.2,
) -> Tensor:
    """``images`` (N, C, H, W) plus ``eta`` times a partner of another class, drawn for each; pixels may exceed 1.

    Gradients are averaged over ``partners`` of them, and over the scaled copies of each (of si).
    """
    counts = pool.allowed.sum(1)
    drawn = (counter_rng.uniform(seed, indices, stream, 1)[:, 0] * counts).long().minimum(counts - 1)
    chosen = (pool.allowed.cumsum(1) <= drawn[:, None]).sum(1)
    return images + eta * pool.images[chosen].to(images.dtype)


ADMIX = Modifier(
    "admix",
    "gradients averaged over mixtures with images of other classes, each scaled as si does (Wang et al. 2021)",
    mixed,
    {"partners": (1, 1000), "eta": (0.0, 1.0)},
    "mix",
    brings="si",
    copies="partners",
)
