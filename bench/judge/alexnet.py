"""AlexNet, which no recipe optimises, and the distance between pictures that people see in it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

PACKAGE = "stlpips-pytorch"  # its code wants IPython, and is never imported
FILE = "alex_shift_tolerant.pth"
DIGEST = "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee"  # in 0.0.2


@dataclass(frozen=True)
class AlexNet:
    """AlexNet whose strides blur first, so that a shift of a pixel changes little.

    Its weights, and `lpips`, the weight of each channel in the distance that people see.
    Source: Ghildyal, Liu 2022, "Shift-tolerant Perceptual Similarity Metric", arXiv:2207.13686.
    """

    tensors: dict[str, Tensor]

    def features(self, image: Tensor) -> list[Tensor]:
        """relu1 to relu5, (1, C, H', W') each. image: (1, 3, H, W), RGB, 0..255."""
        own = self.tensors
        x = (image / 127.5 - 1 - own["scaling_layer.shift"]) / own["scaling_layer.scale"]
        x = self._blurred(self._convolved(x, "slice1.0", padding=2), "slice1.1").relu()
        found = [x]
        x = self._blurred(functional.max_pool2d(x, 3, 1), "slice2.4")
        found.append(x := self._convolved(x, "slice2.5", padding=2).relu())
        x = self._blurred(functional.max_pool2d(x, 3, 1), "slice3.8")
        for name in ("slice3.9", "slice4.11", "slice5.13"):
            found.append(x := self._convolved(x, name, padding=1).relu())
        return found

    def lpips(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Shift-tolerant LPIPS of two images' features."""
        distance = 0.0
        for layer, pair in enumerate(zip(ours, theirs, strict=True)):
            one, other = (x / (x.norm(dim=1, keepdim=True) + 1e-10) for x in pair)
            weighted = functional.conv2d(
                (one - other).square(), self.tensors[f"lin{layer}.model.1.weight"]
            )
            distance += weighted.mean().item()
        return distance

    def _convolved(self, x: Tensor, name: str, padding: int) -> Tensor:
        weight, bias = (self.tensors[f"net.{name}.{part}"] for part in ("weight", "bias"))
        return functional.conv2d(x, weight, bias, padding=padding)

    def _blurred(self, x: Tensor, name: str) -> Tensor:
        padded = functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return functional.conv2d(
            padded, self.tensors[f"net.{name}.filt"], stride=2, groups=x.shape[1]
        )


def load_alexnet() -> AlexNet:
    """From the package that carries it.

    Raises FileNotFoundError without it, ValueError if it is damaged.
    """
    for file in metadata.files(PACKAGE) or ():
        if file.name == FILE:
            path = Path(str(file.locate()))
            if (found := hashlib.sha256(path.read_bytes()).hexdigest()) != DIGEST:
                raise ValueError(f"{path}: SHA-256 expected {DIGEST}, found {found}")
            return AlexNet(torch.load(path, map_location="cpu", weights_only=True))
    raise FileNotFoundError(f"{PACKAGE} carries no {FILE}")
