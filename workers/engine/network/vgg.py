"""VGG19 on a device: its parameters, brought to a precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..device.arena import Arena
from ..device.graphs import Graphs
from ..errors import WeightsError
from ..layers import DTYPES, SHAPES, Precision
from .backends.choice import Backend, build, choose
from .backends.onednn import has_fast_bfloat16
from .convolution import Convolution


@dataclass(frozen=True, eq=False)
class Weights:
    """The parameters of one trained VGG19, for RGB images of 0..255 with `mean` subtracted.

    tensors: "conv1_1.weight" (64, 3, 3, 3), "conv1_1.bias" (64,), ... as in `SHAPES`, float32.
    mean: (3,), RGB, 0..255.
    digest: SHA-256 of the file they came from, in hex.
    Raises WeightsError that lists every tensor that is missing or misshapen.
    """

    name: str
    digest: str
    mean: Tensor
    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        faults = [
            f"{name} is {found.get(name, 'missing')}, expected {shape}"
            for name, shape in SHAPES.items()
            if found.get(name) != shape
        ]
        if tuple(self.mean.shape) != (3,):
            faults.append(f"mean is {tuple(self.mean.shape)}, expected (3,)")
        if faults:
            raise WeightsError(f"{self.name} is no VGG19: " + "; ".join(faults))


class Vgg:
    """One network on one device, shared by all renders there.

    The parameters are brought to a precision when the first render asks for it, and stay.
    arena: what its passes write into. graphs: their steps, recorded.
    progress_counter: rises with each strip of any pass: as long as it does, the device works. Any
    thread may read it.
    """

    def __init__(self, weights: Weights, device: torch.device | str = "cpu") -> None:
        self.weights = weights
        self.device = torch.device(device)
        self.arena = Arena(self.device)
        self.graphs = Graphs(self.device, self.arena)
        self.progress_counter = 0
        self._convolutions: dict[tuple[Backend, Precision, str], Convolution] = {}

    def convolution(self, layer: str, precision: Precision, height: int, width: int) -> Convolution:
        """The convolution of a layer, for an input of a size in px: of the first, images."""
        backend = choose(self.device.type, precision, layer, height * width)
        key = backend, precision, layer
        if key not in self._convolutions:
            self._convolutions[key] = self._built(*key, (height, width))
        return self._convolutions[key]

    def _built(
        self, backend: Backend, precision: Precision, layer: str, size: tuple[int, int]
    ) -> Convolution:
        weight, bias = (
            self.weights.tensors[f"conv{layer}.{name}"].to(self.device, DTYPES[precision])
            for name in ("weight", "bias")
        )
        mean = self.weights.mean.to(self.device, torch.float32)
        return build(backend, layer, weight, bias, mean=mean, size=size, arena=self.arena)


def resolve_precision(asked: Literal["auto"] | Precision, device: torch.device | str) -> Precision:
    """What `auto` means here: bfloat16 where the hardware is faster in it, else float32."""
    if asked != "auto":
        return asked
    match torch.device(device).type:
        case "cuda":
            is_fast = torch.cuda.get_device_capability(device) >= (8, 0)
        case "cpu":
            is_fast = has_fast_bfloat16()
        case _:
            is_fast = False
    return "bfloat16" if is_fast else "float32"
