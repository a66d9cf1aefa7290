"""Colours as another camera would have them."""

from __future__ import annotations

from torch import Tensor

RANGES = (0.3, 0.4, 0.6)  # of the factors of brightness, contrast and saturation, around 1
_GREY = 0.45  # what contrast leaves as it is: about the mean of photographs


def photometric(images: Tensor, drawn: Tensor) -> Tensor:
    """``images`` with other saturation, brightness and contrast, each a factor, in this order (after Liu et al. 2016).

    Saturation is the distance from the mean of the channels, contrast that from 0.45.

    Args:
        images: (N, C, H, W) float in [0, 1], NaN where there is no pixel; grey ones have no saturation.
        drawn: (N, 3) in [0, 1): where in their ranges the factors of brightness, contrast and saturation lie.
    """
    brightness, contrast, saturation = (
        (1.0 - reach + 2.0 * reach * drawn[:, k]).view(-1, 1, 1, 1) for k, reach in enumerate(RANGES)
    )
    grey = images.mean(1, keepdim=True)
    lit = (grey + saturation * (images - grey)) * brightness
    return ((lit - _GREY) * contrast + _GREY).clamp(0.0, 1.0)
