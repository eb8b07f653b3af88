"""A 3 x 3 convolution with its ReLU, and the backward pass of either, without autograd.

Features lie channels last, (B, H, W, C), contiguous: a layer's positions are the rows of a matrix.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ..device import operators
from ..device.arena import Arena
from ..device.cudnn import cudnn
from ..device.graphs import parallel_streams

KERNEL = 3
BFLOAT16_GAIN = 1.5  # a lesser one is made up for by Winograd's tiles, which float32 has alone
# Of so much at most, oneDNN's result has memory of its own. C's allocator has a small piece at
# hand, its pages mapped; larger ones it returns to the system each time.
SMALL_OUTPUT_BYTES = 2**23
STEM_WIDTH = 16  # channels
STEM_ROWS = 32  # the image's rows that are unfolded at a time, so that they stay in the caches

OutputAllocator = Callable[[], Tensor]  # gives memory for a result, if the backend needs it


class Convolution(ABC):
    """y = relu(conv(x) + bias), padded by 1; weights do not change, so only x has a gradient."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs = inputs
        self.outputs = outputs

    @abstractmethod
    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        """y, (B, H, W, outputs), in its place or in memory of its own. x: (B, H, W, inputs)."""

    @abstractmethod
    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        """What x gets of a gradient, (B, H, W, inputs), in its place or in memory of its own.

        gradient: (B, H, W, outputs), of what the ReLU was given: see `mask`.
        """


class Direct(Convolution):
    """The device's own convolution, in the precision of its weight, (C', C, 3, 3).

    On a GPU it is cuDNN's: see `cudnn`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._adjoint = _adjoint(weight).contiguous(memory_format=torch.channels_last)
        self._bias = bias

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:  # noqa: ARG002  # torch has its own
        if x.device.type == "cuda" and x.dtype != torch.float32:  # with the ReLU on the way
            with cudnn(x.dtype):
                y = operators.convolve_with_relu(x.permute(0, 3, 1, 2), self._weight, self._bias)
            return y.permute(0, 2, 3, 1).contiguous()
        return self._convolved(x, self._weight, self._bias).clamp_min_(0)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:  # noqa: ARG002
        return self._convolved(gradient, self._adjoint, None)

    @staticmethod
    def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # In float32 one by one: which algorithm cuDNN takes, and so the last bits, may depend on
        # how many there are.
        parts = torch.split(x, 1) if x.device.type == "cuda" and x.dtype == torch.float32 else [x]
        with cudnn(x.dtype):
            found = [
                functional.conv2d(part.permute(0, 3, 1, 2), weight, bias, padding=1)
                for part in parallel_streams(parts, x.device)
            ]
        y = found[0] if len(found) == 1 else torch.cat(found)
        return y.permute(0, 2, 3, 1).contiguous()  # it is, on devices that keep the layout


class DirectStem(Direct):
    """The first convolution: from images of 0..255, (B, H, W, 3), float32.

    mean: (3,), RGB, subtracted before the padding, as in the network's training.
    Pixels are widened to sixteen channels, which is how a GPU's matrix units take them best.
    """

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, arena: Arena) -> None:
        colors = weight.shape[1]
        super().__init__(functional.pad(weight, (0, 0, 0, 0, 0, STEM_WIDTH - colors)), bias)
        self.inputs = colors
        self._mean = mean
        self._arena = arena

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        shape = *x.shape[:3], STEM_WIDTH
        pixels = self._arena.take("stem pixels", shape, self._bias.dtype).zero_()
        torch.sub(x, self._mean, out=pixels[..., : self.inputs])
        return super().forward(pixels, place)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        return super().backward(gradient, place)[..., : self.inputs]


class Packed(Convolution):
    """oneDNN's convolution on the CPU, its kernels laid out once and its ReLU applied on the way.

    `functional.conv2d` lays them out anew at each call: at 256 px a tenth of the time in bfloat16.
    weight: (C', C, 3, 3). size: height and width of the input that the layout is chosen for;
    others work.
    """

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._weight = operators.pack_kernels(weight, size)
        self._adjoint = operators.pack_kernels(_adjoint(weight), size)
        self._bias = bias

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        return _convolved(x, self._weight, self._bias, "relu", place)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        return _convolved(gradient, self._adjoint, None, "none", place)


class PackedStem(Packed):
    """The first convolution: from images of 0..255, (B, H, W, 3), float32.

    mean: (3,), RGB, subtracted before the padding, as in the network's training.
    256 x 144, AVX-512 and AMX: 0.3 ms and 0.5 ms; by `UnfoldedStem` 1.5 ms and 2.0 ms.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, mean: Tensor, size: tuple[int, int], arena: Arena
    ) -> None:
        super().__init__(weight, bias, size)
        self._mean = mean
        self._arena = arena

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        pixels = self._arena.take("stem pixels", tuple(x.shape), self._bias.dtype)
        return super().forward(torch.sub(x, self._mean, out=pixels), place)


class UnfoldedStem(Convolution):
    """As `PackedStem`: with three channels it is a matrix product of unfolded pixels.

    0.7 ms instead of 2.3 ms back to the image, 256 x 144, two cores with AVX-512, float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, arena: Arena) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._kernel = weight.flatten(1)  # (C, 27): channel, row, column
        self._bias = bias
        self._mean = mean
        self._arena = arena

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        batch, height, width, channels = x.shape
        padded = self._arena.take("stem padded", (channels, height + 2, width + 2))
        out = place()
        for b in range(batch):
            padded.zero_()
            torch.sub(x[b], self._mean, out=padded[:, 1:-1, 1:-1].permute(1, 2, 0))
            for top in range(0, height, STEM_ROWS):
                rows = min(STEM_ROWS, height - top)
                unfolded = self._unfold(padded, top, rows, width)
                y = out[b, top : top + rows].view(rows * width, self.outputs)
                torch.addmm(self._bias, unfolded.T, self._kernel.T, out=y)
                y.clamp_min_(0)
        return out

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        batch, height, width, _ = gradient.shape
        back = self._arena.take("stem gradient", (batch, self.inputs, height, width)).zero_()
        for b in range(batch):
            for top in range(0, height, STEM_ROWS):
                rows = min(STEM_ROWS, height - top)
                flat = gradient[b, top : top + rows].view(rows * width, self.outputs)
                taps = (self._kernel.T @ flat.T).view(self.inputs, KERNEL, KERNEL, rows, width)
                self._fold(taps, top, back[b])
        return place().copy_(back.permute(0, 2, 3, 1))

    def _unfold(self, padded: Tensor, top: int, rows: int, width: int) -> Tensor:
        """(27, rows * width): under each position, the pixels that the kernel sees there."""
        channels = len(padded)
        plane, row, _ = padded.stride()
        windows = padded[:, top:].as_strided(
            (channels, KERNEL, KERNEL, rows, width), (plane, row, 1, row, 1), top * row
        )
        unfolded = self._arena.take(
            "stem unfolded", (channels * KERNEL**2, rows * width), self._kernel.dtype
        )
        unfolded.view(windows.shape).copy_(windows)
        return unfolded

    @staticmethod
    def _fold(taps: Tensor, top: int, out: Tensor) -> None:
        """Adds to each pixel what it gets from the positions around it."""
        _, height, width = out.shape
        rows = taps.shape[3]
        for down in range(KERNEL):
            first, last = max(0, top + down - 1), min(height, top + down - 1 + rows)
            for across in range(KERNEL):
                left, right = max(0, across - 1), min(width, across - 1 + width)
                out[:, first:last, left:right] += taps[
                    :,
                    down,
                    across,
                    first - (top + down - 1) : last - (top + down - 1),
                    left - (across - 1) : right - (across - 1),
                ]


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


def mask(gradient: Tensor, y: Tensor) -> None:
    """The backward pass of a ReLU whose output is y, in place."""
    if y.dtype == torch.bfloat16 and y.device.type == "cpu":
        # Read as integers, what is not negative compares as it does as a number, and no value is
        # widened and rounded on the way: a third of the time, the same bits.
        gradient, y = gradient.view(torch.int16), y.view(torch.int16)
    operators.mask_relu(gradient, y)


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


def _adjoint(weight: Tensor) -> Tensor:
    """The kernels turned by 180 degrees: the input's gradient is a convolution with them."""
    return weight.flip(2, 3).transpose(0, 1)
