from collections import Counter

import pytest

from impasto.workers.engine.errors import ShapeError
from impasto.workers.engine.layers import CHANNELS, LAYERS
from impasto.workers.engine.network.strips import (
    HALO,
    STRIP_ROWS_MIN,
    STRIP_STEP,
    Block,
    Strip,
    blocks,
    least_pass_bytes,
    plan_strips,
    whole_bytes,
)

TAPS = ("1_2", "2_1", "3_1", "3_4")
LITTLE = 1  # byte: the thinnest strips
DEEP = (*TAPS, "4_2")
EARLY = ("2_1", "3_2", "4_2")  # behind each, and in the first block, are layers that nobody taps


def test_an_image_passes_as_many_blocks_as_somebody_listens_to() -> None:
    assert blocks(["1_1", "3_2"], 45, 63) == [
        Block(("1_1", "1_2"), 45, 63, tapped=1),
        Block(("2_1", "2_2"), 22, 31, tapped=0),
        Block(("3_1", "3_2"), 11, 15, tapped=2),
    ]


def test_all_taps_need_all_layers() -> None:
    found = blocks(LAYERS, 16, 31)
    assert tuple(layer for block in found for layer in block.layers) == LAYERS
    assert [(block.height, block.width) for block in found] == [
        (16, 31),
        (8, 15),
        (4, 7),
        (2, 3),
        (1, 1),
    ]


def test_an_image_that_would_be_pooled_away_is_refused() -> None:
    with pytest.raises(
        ShapeError, match=r"the image is 40 x 15 px; relu5_1 needs at least 16 px on each side"
    ):
        blocks(["1_1", "5_1"], 15, 40)
    with pytest.raises(ShapeError, match=r"7 x 40 px; relu4_4 needs at least 8 px"):
        blocks(["4_4"], 40, 7)
    assert blocks(["5_1"], 16, 40)[-1] == Block(("5_1",), 1, 2, tapped=1)


@pytest.mark.parametrize("rows", [16, 20, 36])
def test_strips_have_each_row_of_a_block_once(rows: int) -> None:
    for height in range(1, 120):
        strips = Block(("1_1", "1_2"), height, 8, tapped=1).strips(rows)
        owned = [row for strip in strips for row in range(height)[strip.core]]
        assert owned == list(range(height))


@pytest.mark.parametrize("rows", [16, 20, 36])
def test_strips_see_what_their_convolutions_see_and_no_row_that_is_not_there(rows: int) -> None:
    for height in range(1, 120):
        for strip in Block(("1_1", "1_2"), height, 8, tapped=1).strips(rows):
            assert strip.seen.start == max(0, strip.core.start - HALO)
            assert strip.seen.stop == min(height, strip.core.stop + HALO)
            assert range(height)[strip.seen][strip.inside] == range(height)[strip.core]
            assert strip.rows == len(range(height)[strip.seen])


@pytest.mark.parametrize("rows", [16, 20, 36])
def test_strips_begin_where_tiles_do_and_have_what_a_pool_takes_together(rows: int) -> None:
    for height in range(2, 120):
        for strip in Block(("1_1", "1_2"), height, 8, tapped=1).strips(rows):
            assert strip.seen.start % STRIP_STEP == 0
            assert strip.core.stop % 2 == 0 or strip.core.stop == height
            assert strip.core.stop - strip.core.start > 1


def test_everything_is_kept_where_it_fits() -> None:
    found = blocks(DEEP, 200, 100)
    needed = 2 * whole_bytes(found, "float32")
    for budget_bytes in (None, needed):
        assert [len(s) for s in plan_strips(found, 2, "float32", budget_bytes)] == [1] * 4
    assert len(plan_strips(found, 2, "float32", needed - 1)[0]) > 1


def test_the_deepest_blocks_are_kept_first() -> None:
    found = blocks(LAYERS, 512, 512)
    needed = whole_bytes(found, "float32")
    for share in (0.9, 0.7, 0.5, 0.3):
        counts = [len(s) for s in plan_strips(found, 1, "float32", int(share * needed))]
        assert counts[0] > 1
        assert [count > 1 for count in counts] == sorted([c > 1 for c in counts], reverse=True)


def test_a_third_of_the_memory_keeps_the_blocks_that_cost_most_to_compute_again() -> None:
    found = blocks(("1_1", "2_1", "3_1", "4_1", "4_2", "5_1"), 576, 1024)
    plan = plan_strips(found, 1, "float32", whole_bytes(found, "float32") // 3)
    assert [len(strips) > 1 for strips in plan] == [True, True, True, False, False]


def test_strips_are_never_so_thin_that_they_are_mostly_halo() -> None:
    for strips in plan_strips(blocks(DEEP, 333, 100), 1, "float32", LITTLE):
        assert all(s.core.stop - s.core.start >= STRIP_ROWS_MIN for s in strips[:-1])


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("taps", [("4_2", "5_1"), ("3_1",), ("2_2",), LAYERS])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (1080, 1920), (901, 333)])
def test_a_plan_stays_within_its_budget(
    height: int, width: int, taps: tuple[str, ...], batch: int
) -> None:
    """Down to what the thinnest strips take; close to that, what is kept makes a little more."""
    found = blocks(taps, height, width)
    needed = batch * whole_bytes(found, "float32")
    least = taken(found, plan_strips(found, batch, "float32", LITTLE), batch)
    for percent in range(5, 100):
        budget_bytes = needed * percent // 100
        strips = plan_strips(found, batch, "float32", budget_bytes)
        assert taken(found, strips, batch) <= max(budget_bytes, 1.15 * least)


@pytest.mark.parametrize("taps", [DEEP, EARLY])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (1080, 1920), (901, 333)])
def test_the_least_that_a_pass_takes_is_known(
    height: int, width: int, taps: tuple[str, ...]
) -> None:
    found = blocks(taps, height, width)
    least = taken(found, plan_strips(found, 1, "float32", LITTLE), 1)
    assert least <= least_pass_bytes(found, "float32") <= 1.2 * least


def taken(found: list[Block], plan: list[list[Strip]], batch: int) -> int:
    """The bytes of a plan's buffers: features of their own for what is kept, shared by strips."""
    buffers: Counter[str] = Counter()

    def take(name: str, values: float) -> None:
        buffers[name] = max(buffers[name], int(4 * batch * values))

    for block, strips in zip(found, plan, strict=True):
        for i, layer in enumerate(block.layers):
            is_whole, is_switched = len(strips) == 1, i >= block.tapped
            for strip in strips:
                values = strip.rows * block.width * CHANNELS[layer][1]
                take("gradient", values)
                take(layer if is_whole else f"strip {block.tapped if is_switched else i}", values)
            if is_switched and not is_whole:
                values = block.height * block.width * CHANNELS[layer][1]
                take(f"relu masks of {layer}", values / 32)
    for k in range(1, len(found)):
        values = found[k].height * found[k].width * CHANNELS[found[k - 1].layers[-1]][1]
        place = f"{k % 2}" if len(plan[k]) == 1 else f"of {k}"
        take(f"features {place}", values)
        if len(plan[k]) > 1:
            take(f"gradient {k % 2}", values)
    return buffers.total()
