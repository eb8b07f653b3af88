"""VGG19's layers, and what a plan may name beside them."""

from typing import Literal

import torch

from .errors import PlanError

Pooling = Literal["max", "avg"]
OptimizerName = Literal["lbfgs", "adam"]
Precision = Literal["float32", "bfloat16"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

CHANNELS = {  # of each convolution: in, out. A pool stands before each block but the first.
    "1_1": (3, 64),
    "1_2": (64, 64),
    "2_1": (64, 128),
    "2_2": (128, 128),
    "3_1": (128, 256),
    "3_2": (256, 256),
    "3_3": (256, 256),
    "3_4": (256, 256),
    "4_1": (256, 512),
    "4_2": (512, 512),
    "4_3": (512, 512),
    "4_4": (512, 512),
    "5_1": (512, 512),
    "5_2": (512, 512),
    "5_3": (512, 512),
    "5_4": (512, 512),
}
LAYERS = tuple(CHANNELS)
POOLED = ("2_1", "3_1", "4_1", "5_1")
TAPS = tuple(f"relu{layer}" for layer in LAYERS)
SHAPES: dict[str, tuple[int, ...]] = {
    name: shape
    for layer, (before, after) in CHANNELS.items()
    for name, shape in {
        f"conv{layer}.weight": (after, before, 3, 3),
        f"conv{layer}.bias": (after,),
    }.items()
}


def layer_of(tap: str) -> str:
    """`4_2` of `relu4_2` or `conv4_2`. Raises PlanError on any other name."""
    layer = tap.removeprefix("relu").removeprefix("conv")
    if layer not in LAYERS or tap not in {f"relu{layer}", f"conv{layer}"}:
        raise PlanError(f"no layer is called {tap!r}; accepted: {', '.join(TAPS)}")
    return layer
