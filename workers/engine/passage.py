"""One pass of images through the network, and the way back of their gradients, within a budget.

The layers between two pools are a *block*. What lies between blocks is kept: a tenth of all
features. A block's own features are kept too if the budget allows. Else the block is passed in
*strips* of rows, each with a *halo* of the rows around it that its convolutions see, and on the way
back each strip is computed once more. Both give the same gradients: a Gram is a sum over positions.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from workers.engine.convolution import Convolution, Stem
from workers.engine.errors import ShapeError
from workers.engine.vgg import CHANNELS, DTYPES, LAYERS, POOLED, Pooling, Precision, Vgg

HALO = 4  # each convolution of a block sees one row further, and no block has more than four
# Strips begin where Winograd's tiles do, so that a strip's features are those of the whole to the
# last bits. A feature that is just above 0 in one and not in the other would switch a gradient.
STRIP_STEP = 4
ONE_WAY_BYTES = 2**23  # for the strips of a pass that only goes down
STRIP_ROWS_MIN = 16  # below, the halo costs more than the strip


class Listener(Protocol):
    """Who taps the layers.

    features, gradient: (rows, W, C) of image `index`, from the row `top` of the layer on.
    """

    def hear(self, index: int, layer: str, features: Tensor, top: int) -> None:
        """Called once for each row of each tapped layer, on the way down."""

    def pull(self, index: int, layer: str, features: Tensor, gradient: Tensor, top: int) -> None:
        """Adds to the gradient what the layer itself gives, on the way up."""


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
    """Layers of one size, in px."""

    layers: tuple[str, ...]
    height: int
    width: int

    @property
    def channels(self) -> int:
        """Of the layer that has most."""
        return max(CHANNELS[layer][1] for layer in self.layers)

    def row_bytes(self, item_bytes: int) -> int:
        """What a row of its features takes, with the gradient of the last."""
        channels = [CHANNELS[layer][1] for layer in self.layers]
        return self.width * item_bytes * (sum(channels) + channels[-1])

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
            found.append(Block((layer,), height, width))
        elif not found:
            found.append(Block((layer,), height, width))
        else:
            found[-1] = Block((*found[-1].layers, layer), height, width)
    return found


class Passage:
    """The way of a batch of images of one size, once down and at most once up.

    taps: the layers at which `listener` is called, as `4_2`.
    budget_bytes: what features and gradients may take; None for whatever they need.
    is_one_way: nobody will go back up, and so no more is kept than a strip.
    heed: called between strips; may raise, and so ends the passage.
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
        is_one_way: bool = False,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        self._vgg = vgg
        self._images = images
        self._taps = taps
        self._listener = listener
        self._pooling = pooling
        self._precision = precision
        self._dtype = DTYPES[precision]
        self._heed = heed
        self._blocks = blocks(taps, *images.shape[-2:])
        if is_one_way:
            self._strips = [block.fitting(ONE_WAY_BYTES, precision) for block in self._blocks]
        else:
            self._strips = plan_strips(self._blocks, len(images), precision, budget_bytes)
        self._inputs: list[Tensor] = [images]
        self._kept: dict[int, list[Tensor]] = {}

    @property
    def is_whole(self) -> bool:
        """Every block's features are kept."""
        return all(len(strips) == 1 for strips in self._strips)

    def down(self) -> None:
        """Passes the images, and lets the listener hear each tapped layer."""
        for k, block in enumerate(self._blocks):
            pooled = None
            if k + 1 < len(self._blocks):
                pooled = self._between("features", k + 1)
                self._inputs.append(pooled)
            for strip in self._strips[k]:
                features = self._pass(k, strip)
                for layer, y in zip(block.layers, features, strict=True):
                    if layer in self._taps:
                        for b in range(len(y)):
                            self._listener.hear(b, layer, y[b, strip.inside], strip.core.start)
                if pooled is not None:
                    self._pool(features[-1][:, strip.inside], pooled[:, _halved(strip.core)])
                self._beat()
            if self._is_kept(k):
                self._kept[k] = features

    def up(self, gradient: Tensor) -> None:
        """Adds the gradient of the images, (B, 3, H, W), float32, to what is there."""
        above: Tensor | None = None  # the gradient of the next block's input
        for k in reversed(range(len(self._blocks))):
            below = gradient
            if k > 0:
                below = self._between("gradient", k)
                if not self._is_kept(k):
                    below.zero_()
            for strip in self._strips[k]:
                features = self._kept.pop(k, None) or self._pass(k, strip)
                self._return(k, strip, features, above, below)
                self._beat()
            above = below

    def _beat(self) -> None:
        """Between two strips."""
        self._vgg.pulse += 1
        self._heed()

    def _pass(self, k: int, strip: Strip) -> list[Tensor]:
        """The features of all layers of a strip."""
        block, found = self._blocks[k], list[Tensor]()
        for i, (layer, convolution) in enumerate(self._convolutions(k)):
            place = f"relu{layer}" if self._is_kept(k) else f"strip {i}"
            shape = (len(self._images), strip.rows, block.width, convolution.outputs)
            y = self._vgg.arena.take(place, shape, self._dtype)
            if isinstance(convolution, Stem):
                convolution.forward(self._images[:, :, strip.seen], y)
            else:
                convolution.forward(found[-1] if found else self._inputs[k][:, strip.seen], y)
            found.append(y)
        return found

    def _return(
        self, k: int, strip: Strip, features: Sequence[Tensor], above: Tensor | None, below: Tensor
    ) -> None:
        """Brings the gradient of a strip's rows to its input.

        above: of the pooled output; None behind the deepest layer. below: of the input, which is
        added to; what a kept block gives to it is all that it gets.
        """
        block, last = self._blocks[k], features[-1]
        gradient = self._vgg.arena.take("gradient", tuple(last.shape), self._dtype)
        if above is None or not self._is_kept(k):
            gradient.zero_()
        if above is not None:
            rows = above[:, _halved(strip.core)]
            self._unpool(last[:, strip.inside], rows, gradient[:, strip.inside])
        for i, (layer, convolution) in reversed(list(enumerate(self._convolutions(k)))):
            y = features[i]
            if layer in self._taps:
                for b in range(len(y)):
                    mine = y[b, strip.inside], gradient[b, strip.inside]
                    self._listener.pull(b, layer, *mine, strip.core.start)
            if isinstance(convolution, Stem):
                convolution.backward(y, gradient, below[:, :, strip.seen])
            elif i == 0 and self._is_kept(k):
                convolution.backward(y, gradient, below)
            else:
                # Over the features, which nobody asks for any more.
                shape = len(y), strip.rows, block.width, convolution.inputs
                before = y.flatten()[: torch.Size(shape).numel()].view(shape)
                convolution.backward(y, gradient, before)
                gradient = before
                if i == 0:
                    below[:, strip.seen] += gradient

    def _is_kept(self, k: int) -> bool:
        return len(self._strips[k]) == 1

    def _convolutions(self, k: int) -> Iterator[tuple[str, Convolution | Stem]]:
        block = self._blocks[k]
        size = block.height, block.width
        for layer in block.layers:
            if layer == LAYERS[0]:
                yield layer, self._vgg.stem(self._precision, *size)
            else:
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

    def _pool(self, y: Tensor, out: Tensor) -> None:
        pool = functional.max_pool2d if self._pooling == "max" else functional.avg_pool2d
        out.copy_(_channels_last(pool(_channels_first(y), 2)))

    def _unpool(self, y: Tensor, above: Tensor, out: Tensor) -> None:
        batch, height, width, channels = above.shape
        paired = out[:, : 2 * height, : 2 * width]  # a pool leaves out an odd row or column
        out[:, 2 * height :].zero_()
        out[:, : 2 * height, 2 * width :].zero_()
        if self._pooling == "avg":
            shape = (batch, height, 2, width, 2, channels)
            across, down = out.stride(2), out.stride(1)
            strides = (out.stride(0), 2 * down, down, 2 * across, across, 1)
            paired = paired.as_strided(shape, strides)
            spread = above[:, :, None, :, None].expand(shape)
            torch.mul(spread, 1 / 4, out=paired)
        else:
            y, above = _channels_first(y), _channels_first(above)
            _, indices = functional.max_pool2d(y, 2, return_indices=True)
            found = torch.ops.aten.max_pool2d_with_indices_backward(
                above, y, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
            )
            out.copy_(_channels_last(found))


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
    # The blocks from this one on are kept, as many as leave half of it to the others' strips, and
    # those that are too low for strips.
    first_kept = len(blocks)
    kept = 0
    for k in reversed(range(1, len(blocks))):
        more = batch * blocks[k].height * blocks[k].row_bytes(item_bytes)
        if 2 * (kept + more) > left and blocks[k].height > STRIP_ROWS_MIN + 1:
            break
        kept += more
        first_kept = k
    # The strips of all blocks use the same buffers: one for each layer, and a gradient.
    buffer_bytes = (left - kept) // (1 + max(len(block.layers) for block in blocks[:first_kept]))
    for k, block in enumerate(blocks[:first_kept]):
        row_bytes = batch * block.width * item_bytes * block.channels
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
    return item_bytes * (features + widest + 2 * _in_turns(_between(blocks)))


def least_pass_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What one image takes when every block is passed in the thinnest strips."""
    item_bytes = DTYPES[precision].itemsize
    rows = STRIP_ROWS_MIN + 2 * HALO + 1  # with the odd row that a pool leaves out
    thinnest = max((rows * block.row_bytes(item_bytes) for block in blocks), default=0)
    return between_bytes(blocks, precision) + thinnest


def between_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What lies between the blocks of one image, features and gradients, if none is kept."""
    between = _between(blocks)
    return DTYPES[precision].itemsize * (sum(between) + _in_turns(between))


def _between(blocks: Sequence[Block]) -> list[int]:
    """How many features each block but the first has for its input."""
    return [
        block.height * block.width * CHANNELS[before.layers[-1]][1]
        for before, block in pairwise(blocks)
    ]


def _in_turns(sizes: Sequence[int]) -> int:
    """What two places take that serve in turns."""
    return sum(max(sizes[first::2], default=0) for first in (0, 1))


def _halved(rows: slice) -> slice:
    return slice(rows.start // 2, rows.stop // 2)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
