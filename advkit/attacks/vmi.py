"""VMI: gradients corrected by how they vary around the last point (Wang and He 2021)."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.attacks.budget import direction
from advkit.data import counter_rng
from advkit.metrics.norms import Norm


def neighbours(
    x: Tensor,
    indices: Tensor,
    seed: int,
    stream: tuple[int, int],
    eps: float,
    norm: Norm,
    *,
    samples: int = 20,
    beta: float = 1.5,
) -> list[Tensor]:
    """``samples`` points (N, C, H, W) around ``x``, drawn evenly from the ball of ``beta`` times ``eps``.

    The mean of the gradients there, less that at ``x``, corrects the next step's gradient.
    """
    size, found = x[0].numel(), []
    for number in range(samples):
        drawn_by = counter_rng.stream("vmi", *stream, number)
        if norm == "linf":
            offset = beta * eps * (2.0 * counter_rng.uniform(seed, indices, drawn_by, size) - 1.0)
        else:
            part = counter_rng.uniform(seed, indices, counter_rng.stream("vmi radius", *stream, number), 1)
            offset = direction(x, indices, norm, seed, drawn_by, size + 1) * (beta * eps * part ** (1.0 / size))
        found.append(x + offset.view_as(x).to(x.dtype))
    return found


VMI = Modifier(
    "vmi",
    "momentum over gradients corrected by their variance around the last point (Wang and He 2021)",
    neighbours,
    {"samples": (1, 1000), "beta": (1e-6, 1000.0)},
    "variance",
    brings="mi",
)
