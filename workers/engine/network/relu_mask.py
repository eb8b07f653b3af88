"""Where ReLUs let something through, in one bit a feature: all that a gradient needs of them."""

import torch
from torch import Tensor

BITS = 8  # in a byte; every row of features is a multiple of it


def pack(y: Tensor, out: Tensor) -> None:
    """y: (B, H, W, C), what a ReLU gave. out: (B, H, W * C / 8), uint8.

    A bit of a row's bytes has an eighth of the row: torch works on long runs, not within bytes.
    """
    if y.dtype == torch.bfloat16:
        y = y.view(torch.int16)  # has the same sign, and is compared in half the time
    first, *others = y.flatten(2).chunk(BITS, 2)
    torch.gt(first, 0, out=out.view(torch.bool))
    for bit, part in enumerate(others, 1):
        out.add_((part > 0).view(torch.uint8), alpha=1 << bit)


def unpack(masks: Tensor, out: Tensor) -> None:
    """masks: as `pack` gave them. out: (B, H, W, C), above 0 where y was, else 0."""
    for bit, part in enumerate(out.flatten(2).chunk(BITS, 2)):
        part.copy_(masks & (1 << bit))
