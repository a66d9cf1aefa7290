"""SI: gradients averaged over copies of the image that are scaled by powers of 1/2 (Lin et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks.attack import Modifier


def scaled_copies(x: Tensor, *, scales: int = 5) -> list[Tensor]:
    """``scales`` copies of ``x`` (N, C, H, W), the first as it is."""
    return [x / 2**copy if copy else x for copy in range(scales)]


SI = Modifier(
    "si",
    "gradients averaged over images scaled by powers of 1/2 (Lin et al. 2020)",
    scaled_copies,
    {"scales": (1, 64)},
    "copies",
)
