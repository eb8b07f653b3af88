"""Which backend convolves a layer, and how it is built."""

from typing import Literal

from torch import Tensor

from ...device import operators
from ...device.arena import Arena
from ...layers import LAYERS, Precision
from ..convolution import Convolution
from .cudnn import Cudnn
from .direct import Direct
from .onednn import OneDnn
from .stem import Stem, widened
from .unfold import UnfoldedStem
from .winograd import Winograd

Backend = Literal["cudnn", "direct", "onednn", "unfold", "winograd 2", "winograd 4"]
# From this many positions on, large tiles spare more than their larger kernels cost to read.
WINOGRAD_LARGE = 1000


def choose(device: str, precision: Precision, layer: str, positions: int) -> Backend:
    """device: its type. positions: those of the layer's input, height times width."""
    if device != "cpu":
        return "cudnn" if device == "cuda" else "direct"
    if precision == "bfloat16" and operators.has_bfloat16():
        return "onednn"
    if layer == LAYERS[0]:
        return "unfold"
    if precision == "bfloat16":
        return "direct"
    return "winograd 4" if positions >= WINOGRAD_LARGE else "winograd 2"


def build(
    backend: Backend,
    layer: str,
    weight: Tensor,
    bias: Tensor,
    *,
    mean: Tensor,
    size: tuple[int, int],
    arena: Arena,
) -> Convolution:
    """weight: (C', C, 3, 3). mean: (3,), RGB. size: height and width of an input that is usual."""
    if backend == "unfold":
        return UnfoldedStem(weight, bias, mean, arena)
    is_stem = layer == LAYERS[0]
    if is_stem and backend != "onednn":
        weight = widened(weight)
    convolution: Convolution
    match backend:
        case "cudnn":
            convolution = Cudnn(weight, bias)
        case "direct":
            convolution = Direct(weight, bias)
        case "onednn":
            convolution = OneDnn(weight, bias, size)
        case "winograd 2":
            convolution = Winograd(weight, bias, 2, arena)
        case "winograd 4":
            convolution = Winograd(weight, bias, 4, arena)
    return Stem(convolution, mean, weight.dtype, arena) if is_stem else convolution
