"""What a painting asks of a picture, computed once and kept for the next render."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ..layers import Pooling, Precision, layer_of
from ..network.passage import NetworkPass
from ..network.strips import blocks
from ..network.vgg import Vgg
from .losses import gram_sum

_POSITIONS_MIN = 1e-6  # a painting may be transparent everywhere


@dataclass(frozen=True, eq=False)
class StyleTarget:
    """The Grams of one style at one size, averaged over positions.

    grams: layer, as `4_2`, to (C, C), float32.
    """

    grams: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        return sum(gram.nbytes for gram in self.grams.values())


def style_target(
    vgg: Vgg,
    image: Tensor,
    layers: Iterable[str],
    *,
    pooling: Pooling,
    precision: Precision,
    opaque: Tensor | None = None,
) -> StyleTarget:
    """The Grams of a style image, (1, 3, H, W), at its own size, which need not be the canvas's.

    opaque: (H, W), 0..1, which of it is the painting; None for all. Positions count by the square
    of what they cover of it, as in the guided Grams of `Objective`.
    """
    taps = {layer_of(name) for name in layers}
    sizes = {
        layer: (block.height, block.width)
        for block in blocks(taps, *image.shape[-2:])
        for layer in block.layers
    }
    sums = _Sums({} if opaque is None else guides(opaque, sizes))
    passage = NetworkPass(
        vgg, image, taps, sums, pooling=pooling, precision=precision, is_forward_only=True
    )
    with vgg.arena.temporary():  # it may be larger than any canvas
        passage.forward()
    positions = {layer: sums.positions(layer, *size) for layer, size in sizes.items()}
    return StyleTarget({layer: found / positions[layer] for layer, found in sums.found.items()})


def guides(mask: Tensor, sizes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """A mask, (H, W), at each layer's size: (h, w, 1), averaged over what a position covers."""
    return {
        layer: functional.adaptive_avg_pool2d(mask[None], size)[0].unsqueeze(-1)
        for layer, size in sizes.items()
    }


class _Sums:
    """Adds up the Grams of the features that it is given, by their guides if there are any."""

    def __init__(self, guides: Mapping[str, Tensor]) -> None:
        self.found: dict[str, Tensor] = {}
        self._guides = guides

    def positions(self, layer: str, height: int, width: int) -> float:
        """How many a layer has; those that are opaque in part count in part."""
        if layer not in self._guides:
            return height * width
        return max(float(self._guides[layer].square().sum()), _POSITIONS_MIN)

    def on_features(self, _index: int, layer: str, features: Tensor, top: int) -> None:
        if layer in self._guides:
            features = features * self._guides[layer][top : top + len(features)]
        more = gram_sum(features.flatten(0, 1))
        self.found[layer] = self.found[layer] + more if layer in self.found else more

    def add_gradient(self, *_: object) -> None:
        raise AssertionError("a style has no gradient")


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
