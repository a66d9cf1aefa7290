"""Random objects and random predictions for them: near, far, of wrong classes, and of nothing."""

from __future__ import annotations

import torch
from torch import Tensor


def random_detections(
    seed: int, *, images: int, num_classes: int, objects: int, predictions: int, difficult: float = 0.15
) -> tuple[Tensor, Tensor]:
    """(N, D, 6) predictions, the best score first, each score once, and (N, B, 6) targets; some rows hold nothing."""
    chance = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=chance)

    corner = uniform(images, objects, 2) * 100
    label = torch.randint(0, num_classes, (images, objects, 1), generator=chance).float()
    hard = (uniform(images, objects, 1) < difficult).float()
    targets = torch.cat([corner, corner + 5 + 60 * uniform(images, objects, 2), label, hard], 2)
    empty = torch.arange(objects) >= (uniform(images, 1) * (objects + 1)).floor()
    targets[empty] = torch.tensor([0.0, 0, 0, 0, -1, 0])

    source = (uniform(images, predictions) * objects).long()
    found = targets.gather(1, source[..., None].expand(-1, -1, 6)).clone()
    blur = 10 * uniform(images, predictions, 1) ** 2
    found[..., :4] += blur * torch.randn(images, predictions, 4, generator=chance)
    corners = found[..., :4].view(images, predictions, 2, 2)
    found[..., :4] = torch.cat([corners.amin(2), corners.amax(2)], 2)
    wrong = (uniform(images, predictions) < 0.2) | (found[..., 4] < 0)
    other = torch.randint(0, num_classes, (images, predictions), generator=chance).float()
    found[..., 5] = torch.where(wrong, other, found[..., 4])
    likely = uniform(images, predictions) - 0.2 * blur[..., 0]
    rank = likely.flatten().argsort().argsort().view(images, predictions)
    found[..., 4] = (rank + 1) / rank.numel()  # each score once
    nothing = torch.arange(predictions) >= (uniform(images, 1) * (predictions + 1)).floor()
    found[nothing] = torch.tensor([0.0, 0, 0, 0, 0, -1])
    order = found[..., 4].argsort(dim=1, descending=True, stable=True)
    return found.gather(1, order[..., None].expand_as(found)), targets
