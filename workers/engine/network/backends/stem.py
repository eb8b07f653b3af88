"""The first convolution, by any backend that can have three channels or sixteen."""

import torch
from torch import Tensor
from torch.nn import functional

from ...device.arena import Arena
from ..convolution import Convolution, OutputAllocator

WIDTH = 16  # channels


class Stem(Convolution):
    """From images of 0..255, (B, H, W, 3), float32.

    convolution: of pixels in `dtype`; its inputs beyond the colours are given zeros.
    mean: (3,), RGB, subtracted before the padding, as in the network's training.
    """

    def __init__(
        self, convolution: Convolution, mean: Tensor, dtype: torch.dtype, arena: Arena
    ) -> None:
        super().__init__(len(mean), convolution.outputs)
        self._convolution = convolution
        self._mean = mean
        self._dtype = dtype
        self._arena = arena

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        shape = *x.shape[:3], self._convolution.inputs
        pixels = self._arena.take("stem pixels", shape, self._dtype)
        if self._convolution.inputs > self.inputs:
            pixels.zero_()
        torch.sub(x, self._mean, out=pixels[..., : self.inputs])
        return self._convolution.forward(pixels, place)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        return self._convolution.backward(gradient, place)[..., : self.inputs]


def widened(weight: Tensor) -> Tensor:
    """Kernels of sixteen channels, which a GPU's matrix units take best: (C', 16, 3, 3)."""
    return functional.pad(weight, (0, 0, 0, 0, 0, WIDTH - weight.shape[1]))
