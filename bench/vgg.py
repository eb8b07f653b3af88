"""VGG19 plainly, by torch's own convolutions and autograd: nothing of our engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from impasto.workers import weights
from impasto.workers.engine.layers import LAYERS, POOLED, layer_of
from impasto.workers.engine.network.vgg import Weights

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "max": partial(functional.max_pool2d, kernel_size=2),
    "avg": partial(functional.avg_pool2d, kernel_size=2),
}


@dataclass(frozen=True)
class PlainVgg:
    """tensors: by the names of `engine.vgg.SHAPES`. mean: (3,), RGB, which it subtracts first."""

    tensors: Mapping[str, Tensor]
    mean: Tensor

    def features(
        self, image: Tensor, layers: Sequence[str], pooling: str = "avg", padding: str = "constant"
    ) -> dict[str, Tensor]:
        """After the ReLU of each layer, (B, C, H', W'). image: (B, 3, H, W), RGB, 0..255.

        padding: of the first convolution, as `functional.pad` names it; the others' is of zeros.
        """
        names = {layer_of(name): name for name in layers}
        found = {}
        x = functional.pad(image - self.mean.view(1, 3, 1, 1), (1, 1, 1, 1), mode=padding)
        for layer in LAYERS:
            if layer in POOLED:
                x = POOLS[pooling](x)
            weight, bias = (self.tensors[f"conv{layer}.{part}"] for part in ("weight", "bias"))
            x = functional.conv2d(x, weight, bias, padding=0 if layer == LAYERS[0] else 1).relu()
            if layer in names:
                found[names[layer]] = x
            if len(found) == len(names):
                break
        return found


def original_weights() -> Weights:
    """Those of Caffe, which the engine has by default."""
    return weights.load("caffe", Path("unused"), fetch=_nothing)


def load(device: torch.device | str = "cpu") -> PlainVgg:
    """With the original weights."""
    loaded = original_weights()
    tensors = {name: loaded.tensors[name].to(device) for name in loaded.tensors}
    return PlainVgg(tensors, loaded.mean.to(device))


def _nothing(address: str) -> bytes:
    raise FileNotFoundError(address)
