"""SI: gradients averaged over copies of the image that are scaled by powers of 1/2 (Lin et al. 2020)."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks.attack import Modifier


def scaled_copy(x: Tensor, copy: int, *, scales: int = 5) -> Tensor:
    """Copy number ``copy`` of ``scales`` of ``x`` (N, C, H, W): the first as it is, each next one half as bright."""
    return x / 2**copy if copy else x


SI = Modifier(
    "si",
    "gradients averaged over images scaled by powers of 1/2 (Lin et al. 2020)",
    scaled_copy,
    {"scales": (1, 64)},
    "copies",
    copies="scales",
)
