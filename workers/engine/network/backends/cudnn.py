"""cuDNN's convolution."""

import torch
from torch import Tensor

from ...device import operators
from ...device.cudnn import cudnn
from ...device.graphs import parallel_streams
from ..convolution import OutputAllocator
from .direct import Direct


class Cudnn(Direct):
    """As `Direct`, told how by `cudnn`: in bfloat16 with the ReLU on the way."""

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        if x.dtype == torch.float32:
            return super().forward(x, place)
        with cudnn(x.dtype):
            y = operators.convolve_with_relu(x.permute(0, 3, 1, 2), self._weight, self._bias)
        return y.permute(0, 2, 3, 1).contiguous()

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # In float32 one by one: which algorithm cuDNN takes, and so the last bits, may depend on
        # how many there are.
        parts = torch.split(x, 1) if x.dtype == torch.float32 else [x]
        convolved = super()._convolved
        with cudnn(x.dtype):
            found = [convolved(part, weight, bias) for part in parallel_streams(parts, x.device)]
        return found[0] if len(found) == 1 else torch.cat(found)
