"""One pass of images through the network, forward and backward, within a budget.

The layers between two pools are a *block*. What lies between blocks is kept: a tenth of all
features. A block's own features are kept too if the budget allows. Else the block is passed in
*strips* of rows, each with a *halo* of the rows around it that its convolutions see, and in the
backward pass each strip is computed once more, down to the last layer that is tapped. Of those
behind it the gradient needs only where their ReLUs let something through, and these *switches* are
kept: a bit a feature. Both give the same gradients: a Gram is a sum over positions.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import Protocol

import torch
from torch import Tensor

from workers.engine import switches
from workers.engine.convolution import Convolution, mask
from workers.engine.errors import ShapeError
from workers.engine.graphs import Branches, side_by_side
from workers.engine.pools import Pooling, pool, unpool
from workers.engine.vgg import CHANNELS, DTYPES, LAYERS, POOLED, Precision, Vgg

HALO = 4  # each convolution of a block sees one row further, and no block has more than four
# Strips begin where Winograd's tiles do, so that a strip's features are those of the whole to the
# last bits. A feature that is just above 0 in one and not in the other would switch a gradient.
STRIP_STEP = 4
FORWARD_ONLY_BYTES = 2**23  # for the strips of a pass that has no backward
STRIP_ROWS_MIN = 16  # below, the halo costs more than the strip


class Listener(Protocol):
    """Who taps the layers.

    features, gradient: (rows, W, C) of image `index`, from the row `top` of the layer on.
    """

    def on_features(self, index: int, layer: str, features: Tensor, top: int) -> None:
        """Called once for each row of each tapped layer, in the forward pass."""

    def add_gradient(
        self, index: int, layer: str, features: Tensor, gradient: Tensor, top: int
    ) -> None:
        """Adds to the gradient that of what is taken from this layer, in the backward pass."""


@dataclass(frozen=True)
class Strip:
    """Some rows of a block."""

    core: slice  # its own
    seen: slice  # with its halo

    @property
    def inside(self) -> slice:
        """Its own rows, counted from the first that it sees."""
        return slice(self.core.start - self.seen.start, self.core.stop - self.seen.start)

    @property
    def rows(self) -> int:
        return int(self.seen.stop - self.seen.start)


@dataclass(frozen=True)
class Block:
    """Layers of one size, in px.

    tapped: how many layers it is, from the first, down to the last that is tapped.
    """

    layers: tuple[str, ...]
    height: int
    width: int
    tapped: int

    @property
    def channels(self) -> int:
        """Of each of its layers."""
        return CHANNELS[self.layers[0]][1]

    @property
    def buffers(self) -> int:
        """How many layers a strip has at a time: those it computes again, and two that take turns.

        Where it computes all again, they take turns with the gradient alone.
        """
        return min(self.tapped + 2, len(self.layers) + 1)

    def row_bytes(self, item_bytes: int) -> int:
        """What a row of its features takes, with the gradient of the last."""
        return self.width * self.channels * item_bytes * (len(self.layers) + 1)

    @property
    def switch_bytes(self) -> int:
        """What is kept of the layers behind the last tap, if their features are not."""
        features = self.height * self.width * self.channels * (len(self.layers) - self.tapped)
        return features // switches.BITS

    def fitting(self, budget_bytes: int, precision: Precision) -> list[Strip]:
        """Strips that take no more than a budget, if it is enough for the narrowest."""
        rows = max(
            budget_bytes // self.row_bytes(DTYPES[precision].itemsize) - 2 * HALO, STRIP_ROWS_MIN
        )
        return self.strips(rows // STRIP_STEP * STRIP_STEP)

    def strips(self, rows: int) -> list[Strip]:
        """Strips of `rows` rows of their own, a multiple of STRIP_STEP."""
        strips = []
        for top in range(0, self.height, rows):
            # The odd row that a pool leaves out has no strip of its own.
            bottom = self.height if top + rows + 1 >= self.height else top + rows
            seen = slice(max(0, top - HALO), min(self.height, bottom + HALO))
            strips.append(Strip(slice(top, bottom), seen))
            if bottom == self.height:
                break
        return strips


def blocks(taps: Collection[str], height: int, width: int) -> list[Block]:
    """The blocks that an image passes, as far down as somebody listens; none if nobody does.

    taps: layers as `4_2`. height, width: of the image.
    Raises ShapeError if a pool on the way would leave no pixel.
    """
    if not taps:
        return []
    path = LAYERS[: 1 + max(map(LAYERS.index, taps))]
    smallest = 2 ** (int(path[-1][0]) - 1)
    if min(height, width) < smallest:
        raise ShapeError(
            f"the image is {width} x {height} px; "
            f"relu{path[-1]} needs at least {smallest} px on each side"
        )
    found: list[Block] = []
    for layer in path:
        if layer in POOLED:
            height, width = height // 2, width // 2
        if layer in POOLED or not found:
            found.append(Block((), height, width, 0))
        layers = (*found[-1].layers, layer)
        tapped = len(layers) if layer in taps else found[-1].tapped
        found[-1] = Block(layers, height, width, tapped)
    return found


class Passage:
    """The pass of a batch of images of one size, once forward and at most once backward.

    taps: the layers at which `listener` is called, as `4_2`.
    budget_bytes: what features and gradients may take; None for whatever they need.
    is_forward_only: there will be no backward pass, and so no more is kept than a strip.
    check: called between strips; may raise, and so ends the passage.
    """

    def __init__(
        self,
        vgg: Vgg,
        images: Tensor,
        taps: Collection[str],
        listener: Listener,
        *,
        pooling: Pooling,
        precision: Precision,
        budget_bytes: int | None = None,
        is_forward_only: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._vgg = vgg
        self._images = images
        self._taps = taps
        self._listener = listener
        self._pooling = pooling
        self._precision = precision
        self._dtype = DTYPES[precision]
        self._check = check
        self._is_forward_only = is_forward_only
        self._blocks = blocks(taps, *images.shape[-2:])
        if is_forward_only:
            self._strips = [block.fitting(FORWARD_ONLY_BYTES, precision) for block in self._blocks]
        else:
            self._strips = plan_strips(self._blocks, len(images), precision, budget_bytes)
        self._inputs: list[Tensor] = [_channels_last(images)]
        self._kept: dict[int, list[Tensor]] = {}
        self._beside = Branches(images.device)  # what listens does not hold up the forward pass

    @property
    def is_whole(self) -> bool:
        """Every block's features are kept."""
        return all(len(strips) == 1 for strips in self._strips)

    def forward(self) -> None:
        """Passes the images, and gives each tapped layer to the listener."""
        with self._beside:
            for k in range(len(self._blocks)):
                pooled = None
                if k + 1 < len(self._blocks):
                    pooled = self._between("features", k + 1)
                    self._inputs.append(pooled)
                kept = list[Tensor]()
                for strip in self._strips[k]:
                    for i, y in enumerate(self._forward(k, strip)):
                        self._hand_on(k, i, strip, y[:, strip.inside], pooled)
                        if self._is_kept(k) and not self._is_forward_only:
                            kept.append(y)
                    self._beat()
                if kept:
                    self._kept[k] = kept

    def backward(self, gradient: Tensor) -> None:
        """Adds the gradient of the images, (B, 3, H, W), float32, to what is there."""
        above: Tensor | None = None  # the gradient of the next block's input
        for k in reversed(range(len(self._blocks))):
            below = _channels_last(gradient) if k == 0 else None
            if k > 0 and not self._is_kept(k):
                below = self._between("gradient", k).zero_()
            for strip in self._strips[k]:
                features = self._kept.pop(k, None)
                if features is None:
                    features = list(islice(self._forward(k, strip), self._blocks[k].tapped))
                below = self._backward(k, strip, features, above, below)
                self._beat()
            above = below

    def _beat(self) -> None:
        """Between two strips."""
        self._vgg.pulse += 1
        self._check()

    def _forward(self, k: int, strip: Strip) -> Iterator[Tensor]:
        """The features of a strip, layer by layer, each to be used before the next is asked for."""
        block, y = self._blocks[k], None
        for i, (_, convolution) in enumerate(self._convolutions(k)):
            x = self._inputs[k][:, strip.seen] if y is None else y
            shape = (len(self._images), strip.rows, block.width, convolution.outputs)
            place = partial(self._vgg.arena.take, self._place(k, i), shape, self._dtype)
            y = convolution.forward(x, place)
            yield y

    def _hand_on(self, k: int, i: int, strip: Strip, y: Tensor, pooled: Tensor | None) -> None:
        """Hands on what is needed of a strip's own rows of a layer, before they are overwritten."""
        block = self._blocks[k]
        layer, rows = block.layers[i], None
        if layer in self._taps:
            for b in range(len(y)):
                with self._beside.branch():
                    self._listener.on_features(b, layer, y[b], strip.core.start)
        if pooled is not None and i + 1 == len(block.layers):
            rows = pooled[:, _halved(strip.core)]
            pool(y, rows, self._pooling)
        if i >= block.tapped and not self._is_kept(k) and not self._is_forward_only:
            if rows is not None and self._pooling == "max":  # the gradient is that of the largest
                largest = self._vgg.arena.take(self._place(k, i + 1), tuple(y.shape), self._dtype)
                unpool(y, rows, largest, self._pooling)
                y = largest
            switches.pack(y, self._switches(k, i)[:, strip.core])

    def _backward(
        self,
        k: int,
        strip: Strip,
        features: list[Tensor],
        above: Tensor | None,
        below: Tensor | None,
    ) -> Tensor:
        """The gradient of a strip's rows, brought to the block's input.

        features: emptied. above: of the pooled output; None behind the deepest layer. below: of
        the input, which is added to; None for what a kept block gives, which is all that it gets.
        """
        block, take = self._blocks[k], self._vgg.arena.take
        inside, top = strip.inside, strip.core.start
        shape: tuple[int, ...] = len(self._images), strip.rows, block.width, block.channels
        gradient = take("gradient", shape, self._dtype)
        spare = gradient
        if len(features) < len(block.layers):
            spare = take(self._place(k, block.tapped), shape, self._dtype)
        if above is None or not self._is_kept(k):
            gradient.zero_()
        for i, (layer, convolution) in reversed(list(enumerate(self._convolutions(k)))):
            before = (*shape[:3], convolution.inputs)
            # Over the features, which nobody asks for any more.
            if i < len(features):
                y = features.pop()
                place = partial(take, self._place(k, i), before, self._dtype)
            else:  # In turns: the next one lies where the gradient does not lie by then.
                y, spare = spare, gradient
                place = partial(_beginning, y, before)
                switches.unpack(self._switches(k, i)[:, strip.seen], y)
            if above is not None and i + 1 == len(block.layers):
                rows = above[:, _halved(strip.core)]
                unpool(y[:, inside], rows, gradient[:, inside], self._pooling)
            if layer in self._taps:
                for b in side_by_side(range(len(y)), y.device):
                    self._listener.add_gradient(b, layer, y[b, inside], gradient[b, inside], top)
            mask(gradient, y)
            del y  # what is convolved may have its memory, which is in the caches
            gradient = convolution.backward(gradient, place)
        if below is None:
            return gradient
        below[:, strip.seen] += gradient
        return below

    def _is_kept(self, k: int) -> bool:
        return len(self._strips[k]) == 1

    def _place(self, k: int, i: int) -> str:
        """Where a layer's features lie; in a strip, behind the last tap, at two places in turns."""
        block = self._blocks[k]
        if self._is_kept(k):
            return f"relu{block.layers[i]}"
        behind = max(0, i - block.tapped)
        return "gradient" if behind % 2 else f"strip {min(i, block.tapped)}"

    def _switches(self, k: int, i: int) -> Tensor:
        block = self._blocks[k]
        shape = len(self._images), block.height, block.width * block.channels // switches.BITS
        return self._vgg.arena.take(f"switches of {block.layers[i]}", shape, torch.uint8)

    def _convolutions(self, k: int) -> Iterator[tuple[str, Convolution]]:
        block = self._blocks[k]
        size = block.height, block.width
        for layer in block.layers:
            yield layer, self._vgg.convolution(layer, self._precision, *size)

    def _between(self, name: str, k: int) -> Tensor:
        """What lies between the block k and the one before.

        Gradients are needed until the block is passed, and so is the input of a kept block: two
        places for each serve in turns.
        """
        block = self._blocks[k]
        channels = CHANNELS[self._blocks[k - 1].layers[-1]][1]
        shape = (len(self._images), block.height, block.width, channels)
        is_brief = name == "gradient" or self._is_kept(k)
        place = f"{name} {k % 2}" if is_brief else f"{name} of {k}"
        return self._vgg.arena.take(f"between {place}", shape, self._dtype)


def plan_strips(
    blocks: Sequence[Block], batch: int, precision: Precision, budget_bytes: int | None
) -> list[list[Strip]]:
    """How each block is passed: as one strip that is kept, or as several that are not.

    The deepest blocks are kept first: their features cost the most to compute for their size.
    """
    plan = [block.strips(block.height + 1) for block in blocks]
    item_bytes = DTYPES[precision].itemsize
    if budget_bytes is None or batch * whole_bytes(blocks, precision) <= budget_bytes:
        return plan
    left = budget_bytes - batch * between_bytes(blocks, precision)
    # The blocks from this one on are kept, as many as leave a third of it to the others' strips,
    # and those that are too low for strips.
    first_kept = len(blocks)
    kept = 0
    for k in reversed(range(1, len(blocks))):
        more = batch * blocks[k].height * blocks[k].row_bytes(item_bytes)
        if 3 * (kept + more) > 2 * left and blocks[k].height > STRIP_ROWS_MIN + 1:
            break
        kept += more
        first_kept = k
    # The strips of all blocks use the same buffers.
    buffer_bytes = (left - kept) // max(block.buffers for block in blocks[:first_kept])
    for k, block in enumerate(blocks[:first_kept]):
        row_bytes = batch * block.width * block.channels * item_bytes
        rows = min(buffer_bytes // row_bytes - 2 * HALO, block.height - 2)  # at least two strips
        plan[k] = block.strips(max(rows, STRIP_ROWS_MIN) // STRIP_STEP * STRIP_STEP)
    return plan


def whole_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What the features and gradients of one image take when every block is kept."""
    item_bytes = DTYPES[precision].itemsize
    features = sum(
        block.height * block.width * CHANNELS[layer][1]
        for block in blocks
        for layer in block.layers
    )
    outputs = (block.height * block.width * CHANNELS[block.layers[-1]][1] for block in blocks)
    widest = max(outputs, default=0)
    return item_bytes * (features + widest + _in_turns(_between(blocks)))


def least_pass_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What one image takes when every block is passed in the thinnest strips."""
    item_bytes = DTYPES[precision].itemsize
    rows = STRIP_ROWS_MIN + 2 * HALO + 1  # with the odd row that a pool leaves out
    widest = max((block.width * block.channels for block in blocks), default=0)
    buffers = max((block.buffers for block in blocks), default=0)
    return between_bytes(blocks, precision) + buffers * rows * widest * item_bytes


def between_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What lies between the blocks of one image and the switches in them, if none is kept."""
    between = _between(blocks)
    switched = sum(block.switch_bytes for block in blocks)
    return DTYPES[precision].itemsize * (sum(between) + _in_turns(between)) + switched


def _between(blocks: Sequence[Block]) -> list[int]:
    """How many features each block but the first has for its input."""
    return [
        block.height * block.width * CHANNELS[before.layers[-1]][1]
        for before, block in pairwise(blocks)
    ]


def _in_turns(sizes: Sequence[int]) -> int:
    """What two places take that serve in turns."""
    return sum(max(sizes[first::2], default=0) for first in (0, 1))


def _beginning(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Its memory, for no more than it holds."""
    return y.flatten()[: math.prod(shape)].view(shape)


def _halved(rows: slice) -> slice:
    return slice(rows.start // 2, rows.stop // 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
