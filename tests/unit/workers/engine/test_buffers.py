from itertools import pairwise

import pytest
import torch

from impasto.workers.engine.device.arena import Arena
from impasto.workers.engine.network.buffers import BufferPlan
from impasto.workers.engine.network.strips import Block

LAYERS = ("3_1", "3_2", "3_3", "3_4")
BLOCKS = [Block(LAYERS[:n], 20, 3, tapped) for n in range(1, 5) for tapped in range(n + 1)]
INPUTS = [Block((f"{k}_1",), 64 >> k, 8, tapped=1) for k in (1, 2, 3, 4)]


def plan(blocks: list[Block], is_kept: list[bool]) -> BufferPlan:
    return BufferPlan(Arena(), blocks, is_kept, 2, torch.float32)


def addresses(block: Block, is_kept: bool) -> list[int]:
    made = plan([block], [is_kept])
    return [made.features(0, i, 7, 256).data_ptr() for i in range(len(block.layers) + 1)]


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
def test_no_layer_writes_over_what_it_reads(block: Block, is_kept: bool) -> None:
    assert all(one != other for one, other in pairwise(addresses(block, is_kept)))


@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_kept_is_not_written_over(block: Block, is_kept: bool) -> None:
    """All of a kept block; of a strip, what is computed again down to the last tap."""
    found = addresses(block, is_kept)
    for address in found[: len(block.layers) if is_kept else block.tapped]:
        assert found.count(address) == 1


@pytest.mark.parametrize("block", BLOCKS)
def test_a_strip_has_as_many_buffers_as_its_rows_are_planned_for(block: Block) -> None:
    assert len(set(addresses(block, is_kept=False))) == block.buffers


def test_the_backward_pass_of_every_block_begins_in_one_buffer() -> None:
    for is_kept in (True, False):
        made = plan(BLOCKS, [is_kept] * len(BLOCKS))
        whole = [(k, len(block.layers)) for k, block in enumerate(BLOCKS)]
        assert len({made.features(k, n, 7, 256).data_ptr() for k, n in whole}) == 1


def test_inputs_of_kept_blocks_take_turns_and_those_of_strips_stay() -> None:
    kept, strips = (plan(INPUTS, [is_kept] * 4) for is_kept in (True, False))
    first = {made: [made.input(k).data_ptr() for k in (1, 2, 3)] for made in (kept, strips)}
    assert first[kept][0] == first[kept][2] != first[kept][1]
    assert len(set(first[strips])) == 3


def test_a_gradient_between_blocks_lies_apart_from_the_next_one() -> None:
    made = plan(INPUTS, [False] * 4)
    one, other, again = (made.input_gradient(k).data_ptr() for k in (1, 2, 3))
    assert one == again != other
