"""How an image is divided on its way through the network, and what memory that takes.

The layers between two pools are a *block*. A block is passed whole, or in *strips* of rows, each
with a *halo* of the rows around it that its convolutions see.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..errors import ShapeError
from ..layers import CHANNELS, DTYPES, LAYERS, POOLED, Precision
from . import relu_mask

HALO = 4  # each convolution of a block sees one row further, and no block has more than four
# Strips begin where Winograd's tiles do, so that a strip's features are those of the whole to the
# last bits. A feature that is just above 0 in one and not in the other would switch a gradient.
STRIP_STEP = 4
STRIP_ROWS_MIN = 16  # below, the halo costs more than the strip


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
    def mask_bytes(self) -> int:
        """What is kept of the layers behind the last tap, if their features are not."""
        features = self.height * self.width * self.channels * (len(self.layers) - self.tapped)
        return features // relu_mask.BITS

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
    return item_bytes * (features + widest + _double_buffered(_boundary_sizes(blocks)))


def least_pass_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What one image takes when every block is passed in the thinnest strips."""
    item_bytes = DTYPES[precision].itemsize
    rows = STRIP_ROWS_MIN + 2 * HALO + 1  # with the odd row that a pool leaves out
    widest = max((block.width * block.channels for block in blocks), default=0)
    buffers = max((block.buffers for block in blocks), default=0)
    return between_bytes(blocks, precision) + buffers * rows * widest * item_bytes


def between_bytes(blocks: Sequence[Block], precision: Precision) -> int:
    """What lies between the blocks of one image and the ReLU masks in them, if none is kept."""
    between = _boundary_sizes(blocks)
    mask_bytes = sum(block.mask_bytes for block in blocks)
    return DTYPES[precision].itemsize * (sum(between) + _double_buffered(between)) + mask_bytes


def _boundary_sizes(blocks: Sequence[Block]) -> list[int]:
    """How many features each block but the first has for its input."""
    return [
        block.height * block.width * CHANNELS[before.layers[-1]][1]
        for before, block in pairwise(blocks)
    ]


def _double_buffered(sizes: Sequence[int]) -> int:
    """What two places take that serve in turns."""
    return sum(max(sizes[first::2], default=0) for first in (0, 1))
