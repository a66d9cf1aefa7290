"""How well predictions on unlabelled images look: scores by which an epoch can be chosen without a label.

Each takes probabilities (N, K) and is larger for the better.
"""

from __future__ import annotations

import torch
from torch import Tensor

TEMPERATURE = 0.05  # of soft neighbourhood density (Saito et al. 2021)
_ROWS = 512  # of the similarity matrix at once


def mutual_information(probabilities: Tensor, exclusive: bool) -> float:
    """Mutual information of image and class, in nats: confident one by one, diverse together.

    What Krause et al. (2010) and Shi and Sha (2012) maximise.

    Args:
        probabilities: (N, K).
        exclusive: rows are distributions over K classes; else each of the K numbers answers a question of its own.
    """
    p = probabilities.double()
    if not exclusive:
        p = torch.stack([p, 1.0 - p], 2)  # (N, K, 2)
    p = p.clamp_min(0.0)
    single = torch.special.entr(p).flatten(1).sum(1).mean()
    return float(torch.special.entr(p.mean(0)).sum() - single)


def neighbourhood_density(probabilities: Tensor, temperature: float = TEMPERATURE) -> float:
    """Mean entropy of each image's soft neighbourhood (Saito et al. 2021); 0 with fewer than two images.

    Neighbours are weighed by softmax(cosine / temperature) of the rows, the image itself left out.
    """
    count = len(probabilities)
    if count < 2:
        return 0.0
    rows = torch.nn.functional.normalize(probabilities.double(), dim=1)
    total = 0.0
    for start in range(0, count, _ROWS):
        part = rows[start : start + _ROWS]
        similar = part @ rows.T / temperature
        own = torch.arange(len(part))
        similar[own, own + start] = float("-inf")
        total += float(torch.special.entr(similar.softmax(1)).sum())
    return total / count


def nuclear_norm(probabilities: Tensor) -> float:
    """Sum of the singular values, divided by N (Cui et al. 2020): large when rows are sure and of many classes."""
    return float(torch.linalg.matrix_norm(probabilities.double(), "nuc")) / max(1, len(probabilities))
