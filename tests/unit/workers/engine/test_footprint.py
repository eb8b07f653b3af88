from typing import get_args

import pytest

from workers.engine.footprint import fitting_side, least_bytes
from workers.engine.optimizers import OptimizerName
from workers.engine.plan import Plan


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_the_size_that_would_have_fitted_is_the_largest_that_does(
    optimizer: OptimizerName, share: float
) -> None:
    plan = Plan(optimizer=optimizer)
    free_bytes = share * least_bytes(plan, 600, 1000)
    side = fitting_side(plan, 600, 1000, free_bytes)
    assert 0 < side < 1000
    assert least_bytes(plan, round(0.6 * side), side) <= free_bytes
    assert least_bytes(plan, round(0.6 * (side + 1)), side + 1) > free_bytes


def test_without_any_memory_no_size_fits_and_with_enough_the_canvas_does() -> None:
    assert fitting_side(Plan(), 600, 1000, 0) == 0
    assert fitting_side(Plan(), 600, 1000, least_bytes(Plan(), 600, 1000)) == 1000


def test_adam_holds_its_best_image_beside_the_one_that_it_moves() -> None:
    """Three images where L-BFGS holds the pairs of its history, and no best beside its own."""
    plans = [Plan(optimizer=optimizer) for optimizer in ("adam", "lbfgs")]
    adam, lbfgs = (least_bytes(plan, 64, 64) for plan in plans)
    assert lbfgs - adam == (2 * 20 - 3) * 4 * 3 * 64 * 64
