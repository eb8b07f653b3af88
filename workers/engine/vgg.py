"""VGG19's convolutions, as far down as somebody listens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from workers.engine.errors import PlanError, ShapeError, WeightsError

Pooling = Literal["max", "avg"]
Precision = Literal["float32", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # (channels, convolutions)
LAYERS = tuple(
    f"{block}_{index}"
    for block, (_, convolutions) in enumerate(BLOCKS, start=1)
    for index in range(1, convolutions + 1)
)
TAPS = tuple(f"relu{layer}" for layer in LAYERS)


def _shapes() -> dict[str, tuple[int, ...]]:
    widths = [3] + [channels for channels, convolutions in BLOCKS for _ in range(convolutions)]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (before, after) in zip(LAYERS, pairwise(widths), strict=True):
        shapes[f"conv{layer}.weight"] = (after, before, 3, 3)
        shapes[f"conv{layer}.bias"] = (after,)
    return shapes


SHAPES = _shapes()


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
    """

    def __init__(self, weights: Weights, device: torch.device | str = "cpu") -> None:
        self.weights = weights
        self.device = torch.device(device)
        self._mean = weights.mean.to(self.device, torch.float32).view(1, 3, 1, 1)
        self._parameters: dict[Precision, list[tuple[Tensor, Tensor]]] = {}

    def features(
        self,
        image: Tensor,
        taps: Iterable[str],
        pooling: Pooling = "max",
        precision: Precision = "float32",
    ) -> dict[str, Tensor]:
        """The activations after the ReLU of each tap, under the names they were asked by.

        image: (B, 3, H, W), float32, RGB, 0..255; the gradient flows.
        taps: `relu4_2` or `conv4_2`, which mean the same. Nothing is computed below the deepest.
        Returns (B, C, H / 2^b, W / 2^b) each, floored, b being the number of pools above it,
        in `precision`.
        Raises ShapeError if a pool on the way would leave no pixel; PlanError on an unknown tap.
        """
        layers = {name: layer_of(name) for name in taps}
        if not layers:
            return {}
        depth = max(map(LAYERS.index, layers.values()))
        _check_size(image, LAYERS[depth])

        found: dict[str, Tensor] = {}
        # channels_last: 0.40 s against 0.60 s forward and back, 256 x 168, float32, two Xeon cores.
        x = (image - self._mean).to(DTYPES[precision], memory_format=torch.channels_last)
        for layer, (weight, bias) in zip(
            LAYERS[: depth + 1], self._in(precision)[: depth + 1], strict=True
        ):
            if layer.endswith("_1") and found:
                x = _pool(x, pooling)
            x = functional.conv2d(x, weight, bias, padding=1).relu_()
            found[layer] = x
        return {name: found[layer] for name, layer in layers.items()}

    def _in(self, precision: Precision) -> list[tuple[Tensor, Tensor]]:
        if precision not in self._parameters:
            tensors = {
                name: tensor.to(self.device, DTYPES[precision])
                for name, tensor in self.weights.tensors.items()
            }
            self._parameters[precision] = [
                (
                    tensors[f"conv{layer}.weight"].to(memory_format=torch.channels_last),
                    tensors[f"conv{layer}.bias"],
                )
                for layer in LAYERS
            ]
        return self._parameters[precision]


def layer_of(tap: str) -> str:
    """`4_2` of `relu4_2` or `conv4_2`. Raises PlanError on any other name."""
    layer = tap.removeprefix("relu").removeprefix("conv")
    if layer not in LAYERS or tap not in {f"relu{layer}", f"conv{layer}"}:
        raise PlanError(f"no layer is called {tap!r}; accepted: {', '.join(TAPS)}")
    return layer


def resolve_precision(asked: Literal["auto"] | Precision, device: torch.device | str) -> Precision:
    """What `auto` means here: bfloat16 where the hardware multiplies in it, else float32."""
    if asked != "auto":
        return asked
    match torch.device(device).type:
        case "cuda":
            has_bfloat16 = torch.cuda.get_device_capability(device) >= (8, 0)
        case "cpu":
            flags = torch.cpu.get_capabilities()
            has_bfloat16 = bool(flags.get("avx512_bf16") or flags.get("amx_bf16"))
        case _:
            has_bfloat16 = False
    return "bfloat16" if has_bfloat16 else "float32"


def _check_size(image: Tensor, deepest: str) -> None:
    height, width = image.shape[-2:]
    smallest = 2 ** (int(deepest[0]) - 1)  # one pixel is left after the last pool
    if min(height, width) < smallest:
        raise ShapeError(
            f"the image is {width} x {height} px; "
            f"relu{deepest} needs at least {smallest} px on each side"
        )


def _pool(x: Tensor, pooling: Pooling) -> Tensor:
    return functional.max_pool2d(x, 2) if pooling == "max" else functional.avg_pool2d(x, 2)
