"""The device's own convolution."""

import torch
from torch import Tensor
from torch.nn import functional

from ...device import operators
from ...device.arena import Arena
from ...device.cudnn import cudnn
from ...device.graphs import parallel_streams
from ..convolution import Convolution, OutputAllocator, adjoint

STEM_WIDTH = 16  # channels


class Direct(Convolution):
    """The device's own convolution, in the precision of its weight, (C', C, 3, 3).

    On a GPU it is cuDNN's: see `cudnn`.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._adjoint = adjoint(weight).contiguous(memory_format=torch.channels_last)
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
