from dataclasses import replace
from typing import get_args

import pytest

from impasto.shared.spec import SIZE_MAX
from impasto.workers.engine.layers import OptimizerName
from impasto.workers.engine.plan import PLAIN
from impasto.workers.engine.render.memory_estimate import (
    fitting_side,
    min_render_bytes,
    most_pixels,
)


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_size_that_would_have_fitted_is_the_largest_that_does(
    optimizer: OptimizerName, share: float
) -> None:
    plan = replace(PLAIN, optimizer=optimizer)
    free_bytes = share * min_render_bytes(plan, 600, 1000)
    side = fitting_side(plan, 600, 1000, free_bytes)
    assert 0 < side < 1000
    assert min_render_bytes(plan, round(0.6 * side), side) <= free_bytes
    assert min_render_bytes(plan, round(0.6 * (side + 1)), side + 1) > free_bytes


def test_without_any_memory_no_size_fits_and_with_enough_the_canvas_does() -> None:
    assert fitting_side(PLAIN, 600, 1000, 0) == 0
    assert fitting_side(PLAIN, 600, 1000, min_render_bytes(PLAIN, 600, 1000)) == 1000


@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (512, 512), (600, 1000), (9000, 3000), (64, 16384)]
)
def test_whatever_fits_is_no_larger_than_the_most_that_is_reported(height: int, width: int) -> None:
    lean = {"content_layers": {}, "style_layers": {"relu1_1": 1.0}, "precision": "bfloat16"}
    for optimizer in get_args(OptimizerName):
        for fields in ({}, {"precision": "bfloat16"}, lean):
            needed = min_render_bytes(replace(PLAIN, optimizer=optimizer, **fields), height, width)
            assert most_pixels(needed) >= height * width


def test_the_most_that_is_reported_grows_with_the_memory_up_to_the_largest_canvas() -> None:
    told = [most_pixels(free_bytes) for free_bytes in (0, 2**20, 2**30, 2**33, 2**40, 1e99)]
    assert told == sorted(told)
    assert told[0] == 0
    assert 2**21 < told[2] < 2**24
    assert told[-2:] == [SIZE_MAX**2] * 2


def test_adam_holds_its_best_image_beside_the_one_that_it_moves() -> None:
    """Three images where L-BFGS holds the pairs of its history, and no best beside its own."""
    plans = [replace(PLAIN, optimizer=optimizer) for optimizer in ("adam", "lbfgs")]
    adam, lbfgs = (min_render_bytes(plan, 64, 64) for plan in plans)
    assert lbfgs - adam == (2 * 20 - 3) * 4 * 3 * 64 * 64
