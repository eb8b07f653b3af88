"""What a painting asks of a picture, computed once and kept for the next render."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workers.engine.losses import gram
from workers.engine.vgg import Pooling, Precision, Vgg


@dataclass(frozen=True, eq=False)
class StyleTarget:
    """The Grams of one style at one size: layer to (1, C, C), float32, averaged over positions."""

    grams: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        return sum(gram.nbytes for gram in self.grams.values())


def style_target(
    vgg: Vgg, image: Tensor, layers: Iterable[str], pooling: Pooling, precision: Precision
) -> StyleTarget:
    """The Grams of a style image, (1, 3, H, W), at its own size, which need not be the canvas's."""
    with torch.no_grad():
        features = vgg.features(image, layers, pooling, precision)
        return StyleTarget({layer: gram(found) for layer, found in features.items()})


class StyleCache:
    """Style targets of earlier renders on one device; the least recently used leaves first.

    Belongs to the thread that owns the device, and so takes no lock.
    """

    def __init__(self, budget_bytes: int = 256 * 2**20) -> None:
        self._budget_bytes = budget_bytes  # 2.3 MB a style with the report's five layers
        self._targets: OrderedDict[Hashable, StyleTarget] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], StyleTarget]) -> StyleTarget:
        """The target kept under `key`, made now if there is none."""
        if key not in self._targets:
            self._targets[key] = make()
        self._targets.move_to_end(key)
        target = self._targets[key]
        while self.size_bytes > self._budget_bytes:
            self._targets.popitem(last=False)
        return target

    @property
    def size_bytes(self) -> int:
        return sum(target.size_bytes for target in self._targets.values())
