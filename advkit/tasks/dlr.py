"""The difference of logits ratio: a loss that neither the scale nor the offset of the logits changes."""

from __future__ import annotations

from torch import Tensor

from advkit.files.errors import InputError

_TINY = 1e-12  # under the ratio, as in the paper's code


def dlr(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """(N,) difference of logits ratio (Croce and Hein 2020), in units of the spread of the largest logits.

    Untargeted: the best other logit less that of ``classes``, over the largest less the third. Targeted: as
    :func:`targeted_dlr` towards ``classes``, away from the best other class.

    Raises:
        InputError: fewer than 3 classes, or 4 when targeted.
    """
    other = logits.scatter(1, classes[:, None], float("-inf")).max(1)
    if targeted:
        return targeted_dlr(logits, other.indices, classes)
    _check(logits, 3)
    largest = logits.topk(3, 1).values
    own = logits.gather(1, classes[:, None]).squeeze(1)
    return (other.values - own) / (largest[:, 0] - largest[:, 2] + _TINY)


def targeted_dlr(logits: Tensor, classes: Tensor, aims: Tensor) -> Tensor:
    """(N,) logits of ``aims`` less those of ``classes``, over the largest less the mean of the third and fourth.

    Args:
        logits: (N, K), K at least 4.
        classes, aims: (N,) int64.

    Raises:
        InputError: fewer than 4 classes.
    """
    _check(logits, 4)
    largest = logits.topk(4, 1).values
    own, wanted = (logits.gather(1, one[:, None]).squeeze(1) for one in (classes, aims))
    return (wanted - own) / (largest[:, 0] - 0.5 * (largest[:, 2] + largest[:, 3]) + _TINY)


def _check(logits: Tensor, least: int) -> None:
    if logits.shape[1] < least:
        kind = "" if least == 3 else "targeted "
        raise InputError(
            f"the {kind}difference of logits ratio needs {least} classes or more, here are {logits.shape[1]}; use "
            "cross-entropy: apgd-ce, or pgd with --loss ce"
        )
