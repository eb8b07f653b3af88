"""What a painting asks of a picture, computed once and kept for the next render."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from workers.engine.losses import gram_sum
from workers.engine.passage import Passage
from workers.engine.pools import Pooling
from workers.engine.strips import blocks
from workers.engine.vgg import Precision, Vgg, layer_of


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
) -> StyleTarget:
    """The Grams of a style image, (1, 3, H, W), at its own size, which need not be the canvas's."""
    taps = {layer_of(name) for name in layers}
    sums = _Sums()
    passage = Passage(
        vgg, image, taps, sums, pooling=pooling, precision=precision, is_forward_only=True
    )
    with vgg.arena.temporary():  # it may be larger than any canvas
        passage.forward()
    positions = {
        layer: block.height * block.width
        for block in blocks(taps, *image.shape[-2:])
        for layer in block.layers
    }
    return StyleTarget({layer: found / positions[layer] for layer, found in sums.found.items()})


class _Sums:
    """Adds up the Grams of the features that it is given."""

    def __init__(self) -> None:
        self.found: dict[str, Tensor] = {}

    def on_features(self, _index: int, layer: str, features: Tensor, _top: int) -> None:
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
