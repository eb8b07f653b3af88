"""The pools between blocks, 2 x 2, forward and backward.

Features lie channels last, (B, H, W, C). A pool leaves out an odd row or column.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ..device import operators
from ..device.cudnn import cudnn
from ..layers import Pooling


def pool(y: Tensor, out: Tensor, pooling: Pooling) -> None:
    """y: (B, H, W, C). out: (B, H // 2, W // 2, C)."""
    y, out = _channels_first(y), _channels_first(out)
    if pooling == "max":
        out.copy_(functional.max_pool2d(y, 2))
    elif y.device.type == "cuda" and y.dtype != torch.float32:
        # A convolution takes a third of the time of torch's pool.
        with cudnn(y.dtype):
            out.copy_(functional.conv2d(y, _mean(y.shape[1], y.device, y.dtype), stride=2))
    else:
        operators.avg_pool_into(out, y)


def unpool(y: Tensor, above: Tensor, out: Tensor, pooling: Pooling) -> None:
    """Writes into out, like y, the gradient of what was pooled: (B, H // 2, W // 2, C)."""
    height, width = above.shape[1:3]
    out[:, 2 * height :].zero_()
    out[:, : 2 * height, 2 * width :].zero_()
    if pooling == "max":
        y, above = _channels_first(y), _channels_first(above)
        out.copy_(operators.max_unpool(above, y).permute(0, 2, 3, 1))
    elif y.device.type == "cuda":  # eight bytes at a time, in a third of the time
        four, spread = _in_fours(out.view(torch.int64), (above / 4).view(torch.int64))
        four.copy_(spread)
    else:
        four, spread = _in_fours(out, above)
        torch.mul(spread, 1 / 4, out=four)


def _in_fours(out: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """The four positions of out that each of above was pooled of, and what belongs there.

    Two views, (B, H, 2, W, 2, C). out: (B, 2 H or 2 H + 1, 2 W or 2 W + 1, C). above: (B, H, W, C).
    """
    batch, height, width, channels = above.shape
    shape = (batch, height, 2, width, 2, channels)
    image, down, across, _ = out.stride()
    four = out.as_strided(shape, (image, 2 * down, down, 2 * across, across, 1))
    return four, above[:, :, None, :, None].expand(shape)


@cache
def _mean(channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kernels that take the mean of each channel, (C, C, 2, 2)."""
    kernels = torch.eye(channels, dtype=dtype, device=device)[:, :, None, None] / 4
    return kernels.expand(-1, -1, 2, 2).contiguous(memory_format=torch.channels_last)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
