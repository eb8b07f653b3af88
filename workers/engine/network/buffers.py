"""What a pass writes into: the buffers of its arena, how long each is needed, which share memory.

A block of n layers has n + 1 buffers. Forward, layer i writes its features into buffer i. Backward,
it reads their gradient from buffer i + 1, and writes that of its input into buffer i, over features
that nobody asks for any more. So the backward pass begins in buffer n. Between two blocks lies the
input of the second, and if that is passed in strips, its gradient, to which they add.

| buffer | needed | memory |
|---|---|---|
| i < n of a kept block | from the forward to the backward pass | its own |
| i < tapped of a strip | while the strip is passed | that of every strip |
| tapped <= i < n of a strip | by one layer | one of two, in turns; n is the other |
| n | by one layer | that of every block |
| ReLU masks of what strips do not compute again | from the forward to the backward pass | its own |
| input of a kept block | in its forward pass | one of two, block by block in turns |
| input of a block in strips | from its forward to its backward pass | its own |
| gradient of the input | until the block before is passed | one of two, as above |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..device.arena import Arena
from ..layers import CHANNELS
from . import relu_mask
from .strips import Block


@dataclass(frozen=True, eq=False)
class BufferPlan:
    """The buffers of one pass, by the number k of a block and i of a layer in it.

    is_kept: of each block, whether it is passed whole and its features are kept.
    """

    arena: Arena
    blocks: Sequence[Block]
    is_kept: Sequence[bool]
    batch: int
    dtype: torch.dtype

    def features(self, k: int, i: int, rows: int, channels: int) -> Tensor:
        """Buffer i of block k, for features or a gradient, (B, rows, W, channels)."""
        shape = self.batch, rows, self.blocks[k].width, channels
        return self.arena.take(self._names[k][i], shape, self.dtype)

    def relu_masks(self, k: int, i: int) -> Tensor:
        """(B, H, W * C / 8), uint8."""
        block = self.blocks[k]
        shape = self.batch, block.height, block.width * block.channels // relu_mask.BITS
        return self.arena.take(f"relu masks of {block.layers[i]}", shape, torch.uint8)

    def input(self, k: int) -> Tensor:
        """What block k is given by the one before, (B, H, W, C)."""
        return self._boundary(k, f"features {k % 2}" if self.is_kept[k] else f"features of {k}")

    def input_gradient(self, k: int) -> Tensor:
        """Its gradient, (B, H, W, C)."""
        return self._boundary(k, f"gradient {k % 2}")

    def _boundary(self, k: int, name: str) -> Tensor:
        block = self.blocks[k]
        shape = self.batch, block.height, block.width, CHANNELS[block.layers[0]][0]
        return self.arena.take(f"between {name}", shape, self.dtype)

    @cached_property
    def _names(self) -> list[list[str]]:
        return [_names(*of) for of in zip(self.blocks, self.is_kept, strict=True)]


def _names(block: Block, is_kept: bool) -> list[str]:
    if is_kept:
        return [*(f"relu{layer}" for layer in block.layers), "gradient"]
    n, in_turns = len(block.layers), ("gradient", f"strip {block.tapped}")
    return [f"strip {i}" if i < block.tapped else in_turns[(n - i) % 2] for i in range(n + 1)]
