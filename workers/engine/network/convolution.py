"""A 3 x 3 convolution with its ReLU, and the backward pass of either, without autograd.

Features lie channels last, (B, H, W, C), contiguous: a layer's positions are the rows of a matrix.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from ..device import operators

KERNEL = 3

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


def mask(gradient: Tensor, y: Tensor) -> None:
    """The backward pass of a ReLU whose output is y, in place."""
    if y.dtype == torch.bfloat16 and y.device.type == "cpu":
        # Read as integers, what is not negative compares as it does as a number, and no value is
        # widened and rounded on the way: a third of the time, the same bits.
        gradient, y = gradient.view(torch.int16), y.view(torch.int16)
    operators.mask_relu(gradient, y)


def adjoint(weight: Tensor) -> Tensor:
    """The kernels turned by 180 degrees: the input's gradient is a convolution with them."""
    return weight.flip(2, 3).transpose(0, 1)
