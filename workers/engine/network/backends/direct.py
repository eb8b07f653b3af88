"""Torch's own convolution, as it has one for every device."""

import torch
from torch import Tensor
from torch.nn import functional

from ..convolution import Convolution, OutputAllocator, adjoint


class Direct(Convolution):
    """In the precision of its weight, (C', C, 3, 3)."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._adjoint = adjoint(weight).contiguous(memory_format=torch.channels_last)
        self._bias = bias

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:  # noqa: ARG002  # torch has its own
        return self._convolved(x, self._weight, self._bias).clamp_min_(0)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:  # noqa: ARG002
        return self._convolved(gradient, self._adjoint, None)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = functional.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1)
        return y.permute(0, 2, 3, 1).contiguous()  # it is, on devices that keep the layout
