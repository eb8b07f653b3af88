"""oneDNN's convolution, as it is by itself: torch's lays out its kernels at each call."""

import math
import time
from functools import cache

import torch
from torch import Tensor

from ...device import operators
from ..convolution import Convolution, OutputAllocator, adjoint

BFLOAT16_GAIN = 1.5  # a lesser one is made up for by Winograd's tiles, which float32 has alone
# Of so much at most, oneDNN's result has memory of its own. C's allocator has a small piece at
# hand, its pages mapped; larger ones it returns to the system each time.
SMALL_OUTPUT_BYTES = 2**23


class OneDnn(Convolution):
    """oneDNN's convolution on the CPU, its kernels laid out once and its ReLU applied on the way.

    `functional.conv2d` lays them out anew at each call: at 256 px a tenth of the time in bfloat16.
    The first layer takes 0.3 ms there and 0.5 ms back, 256 x 144, AVX-512 and AMX, where
    `UnfoldedStem` takes 1.5 ms and 2.0 ms.
    weight: (C', C, 3, 3). size: height and width of the input that the layout is chosen for;
    others work.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._weight = operators.pack_kernels(weight, size)
        self._adjoint = operators.pack_kernels(adjoint(weight), size)
        self._bias = bias

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        return _convolved(x, self._weight, self._bias, "relu", place)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        return _convolved(gradient, self._adjoint, None, "none", place)


@cache
def has_fast_bfloat16() -> bool:
    """Whether a CPU multiplies so much faster in bfloat16 that it convolves faster, too.

    Measured, because a processor's flags do not tell: with AMX a product of this size takes a third
    of the time; where AMX is hidden, the same core is slower in AVX-512's bfloat16 than in float32.
    """
    if not operators.has_bfloat16():
        return False
    best = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    for _ in range(3):
        for dtype in best:
            matrix, out = torch.ones((2, 1024, 1024), dtype=dtype)
            began = time.perf_counter()
            torch.mm(matrix, matrix, out=out)
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    return best[torch.float32] > BFLOAT16_GAIN * best[torch.bfloat16]


def _convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    after: operators.After,
    place: OutputAllocator,
) -> Tensor:
    """oneDNN's convolution: it writes into memory of its own, or adds to what is given to it."""
    y_bytes = math.prod(x.shape[:3]) * weight.shape[0] * x.itemsize
    x = x.permute(0, 3, 1, 2)
    if y_bytes <= SMALL_OUTPUT_BYTES:
        y = operators.convolve(x, weight, bias, after)
    else:
        y = operators.convolve_into(place().permute(0, 3, 1, 2), x, weight, bias, after)
    return y.permute(0, 2, 3, 1)
