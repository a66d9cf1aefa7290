"""What an attack maximises: one number for each image, so that images never influence each other.

Every loss takes ``logits`` (N, K) and ``classes`` (N,) int64: the true class when untargeted, the wanted one when
targeted. Larger is better for the attacker in both cases.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Callable[[Tensor, Tensor, bool], Tensor]


def cross_entropy(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """Cross-entropy (Goodfellow et al. 2015), as softplus(m) with m = logsumexp of the other logits - the class's own.

    The usual form takes the difference p - 1 for the class itself, which is exactly 0 in float32 from a margin of 17
    on, while the other classes keep their gradients: an image's direction is then wrong, not zero. This form loses
    nothing before its gradient as a whole underflows, at a margin of about 88.
    """
    own = logits.gather(1, classes[:, None]).squeeze(1)
    others = logits.scatter(1, classes[:, None], float("-inf")).logsumexp(1)
    loss = F.softplus(others - own)
    return -loss if targeted else loss


def margin(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """Best other logit minus the logit of ``classes`` (Carlini and Wagner 2017)."""
    own = logits.gather(1, classes[:, None]).squeeze(1)
    other = logits.scatter(1, classes[:, None], float("-inf")).amax(1)
    return own - other if targeted else other - own


def logit(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """The class's own logit, up or down (Zhao et al. 2021): the best simple loss for targeted transfer."""
    own = logits.gather(1, classes[:, None]).squeeze(1)
    return own if targeted else -own


LOSSES: dict[str, Loss] = {"ce": cross_entropy, "margin": margin, "logit": logit}


def fooled(logits: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: the prediction is (targeted) or is no longer (untargeted) ``classes``. NaN logits count as wrong."""
    hit = logits.argmax(1) == classes
    finite = torch.isfinite(logits).all(1)
    return hit & finite if targeted else ~hit | ~finite
