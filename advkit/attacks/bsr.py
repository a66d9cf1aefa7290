"""BSR: views of the image with its blocks shuffled and turned (Wang et al. 2024)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.data import counter_rng


def shuffled_blocks(
    images: Tensor, indices: Tensor, seed: int, stream: int, *, views: int = 20, blocks: int = 2, degrees: float = 24.0
) -> Tensor:
    """``images`` (N, C, H, W) cut into ``blocks`` by ``blocks`` rectangles at random lines, shuffled and turned.

    Rows of blocks change places, then in each row the blocks (the paper's code draws whether rows or columns go first);
    each turns around its centre by at most ``degrees``, and is black where nothing comes from. Gradients are averaged
    over ``views`` of them.
    """
    count, _, height, width = images.shape
    each = blocks * blocks
    drawn = counter_rng.uniform(seed, indices, stream, 2 * blocks + 3 * each).to(images.dtype)
    row_cut, row_rank, column_cut, column_rank, turn = torch.split(drawn, [blocks, blocks, each, each, each], 1)
    y, top, tall, row = _moved(height, row_cut[:, None], row_rank[:, None])
    y, top, tall, row = (one[:, 0] for one in (y, top, tall, row))  # (N, H)
    x, left, wide, column = _moved(
        width, column_cut.view(count, blocks, blocks), column_rank.view(count, blocks, blocks)
    )
    which = row[:, :, None].expand(-1, -1, width)  # (N, H, W)
    x, left, wide, column = (one.gather(1, which) for one in (x, left, wide, column))
    angle = math.radians(degrees) * (2.0 * turn.gather(1, (which * blocks + column).flatten(1)).view_as(x) - 1.0)
    middle_y, middle_x = (top + tall / 2)[:, :, None], left + wide / 2
    off_y, off_x = y[:, :, None] - middle_y, x - middle_x
    from_y = middle_y + off_y * angle.cos() - off_x * angle.sin()
    from_x = middle_x + off_y * angle.sin() + off_x * angle.cos()
    inside = (from_y >= top[:, :, None]) & (from_y <= (top + tall)[:, :, None])
    inside = inside & (from_x >= left) & (from_x <= left + wide)
    grid = torch.stack([2.0 * from_x / width - 1.0, 2.0 * from_y / height - 1.0], 3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False) * inside.unsqueeze(1)


def _moved(side: int, cuts: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Along one axis, for every pixel of the result: where it comes from, and its block's edge, length and number.

    Args:
        side: pixels of the axis.
        cuts: (N, M, B) in [0, 1), relative lengths of the blocks.
        ranks: (N, M, B), whose order is that of the blocks in the result.

    Returns:
        (N, M, side) each; places in pixels, of the centres of pixels.
    """
    count = cuts.shape[2]
    lengths = 1.0 + (torch.floor((cuts + 0.1) / (cuts + 0.1).sum(2, keepdim=True) * (side - count)))
    lengths[..., -1] += side - lengths.sum(2)
    edges = lengths.cumsum(2) - lengths
    order = ranks.argsort(2)
    lengths, edges = lengths.gather(2, order), edges.gather(2, order)
    ends = lengths.cumsum(2)
    pixel = torch.arange(side, device=cuts.device, dtype=cuts.dtype) + 0.5
    place = (pixel[None, None, :, None] > ends[:, :, None]).sum(3).clamp_max(count - 1)
    edge, length = edges.gather(2, place), lengths.gather(2, place)
    start = (ends - lengths).gather(2, place)
    return pixel - start + edge, edge, length, order.gather(2, place)


BSR = Modifier(
    "bsr",
    "gradients averaged over views with blocks shuffled and turned (Wang et al. 2024)",
    shuffled_blocks,
    {"views": (1, 1000), "blocks": (1, 16), "degrees": (0.0, 180.0)},
    "view",
    copies="views",
)
