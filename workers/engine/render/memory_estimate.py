"""How much memory a render takes, known before it is built."""

from bisect import bisect_left
from dataclasses import replace

import torch
from torch import Tensor

from ..layers import CHANNELS, DTYPES, layer_of
from ..network.strips import blocks, least_pass_bytes
from ..optim.adam import Adam
from ..optim.lbfgs import Lbfgs
from ..optim.optimizers import Optimizer
from ..plan import PLAIN, Plan
from .pictures import SCALE_SIDE_MIN

# How much L-BFGS remembers depends on the canvas alone, not on a machine's memory: one plan is one
# picture. Canvases of up to 1.6 million pixels get all of it.
HISTORY_MAX, HISTORY_MIN = 20, 3
HISTORY_BYTES = 3 * 2**28
# What a render holds beside what it remembers, in images: the image and the one before with their
# gradients; the best one, with an optimiser that leaves it; and what a step takes for a moment,
# most while L-BFGS smooths its step.
STATE_IMAGES, BEST_IMAGES, STEP_IMAGES = 4, 1, 1


# The leanest render that there is, and a side that no canvas exceeds.
_LEANEST = replace(
    PLAIN, optimizer="adam", precision="bfloat16", content_layers={}, style_layers={"relu1_1": 1.0}
)
_SIDE_MAX, _SIDE_STEP = 2**14, 2**8


def make_optimizer(plan: Plan, canvas: Tensor) -> Optimizer:
    """What the plan asks for, with the memory that a canvas of this size gets."""
    if plan.optimizer == "adam":
        return Adam(plan.learning_rate)
    fitting = HISTORY_BYTES // (2 * canvas.nbytes)
    return Lbfgs(plan.learning_rate, history=max(HISTORY_MIN, min(HISTORY_MAX, fitting)))


def min_render_bytes(plan: Plan, height: int, width: int) -> int:
    """What a render of a canvas takes at least, in the thinnest strips."""
    canvas = torch.empty((1, 3, height, width), device="meta")
    optimizer = make_optimizer(plan, canvas)
    layers = {layer_of(name) for name in (*plan.content_layers, *plan.style_layers)}
    passed = blocks(layers, height, width)
    targets = sum(
        DTYPES[plan.precision].itemsize * CHANNELS[layer_of(name)][1] * block.height * block.width
        for name in plan.content_layers
        for block in passed
        if layer_of(name) in block.layers
    )
    count = STATE_IMAGES + STEP_IMAGES + (0 if optimizer.is_monotone else BEST_IMAGES)
    images = count * canvas.nbytes + optimizer.growth_bytes(canvas)
    return images + targets + least_pass_bytes(passed, plan.precision)


def fitting_side(plan: Plan, height: int, width: int, free_bytes: float) -> int:
    """The long side, in px, up to which a canvas of these proportions has room; 0 if none has."""
    long_side = max(height, width)

    def is_fitting(side: int) -> bool:
        sides = (max(SCALE_SIDE_MIN, round(s * side / long_side)) for s in (height, width))
        return min_render_bytes(plan, *sides) <= free_bytes

    return bisect_left(range(1, long_side + 1), True, key=lambda side: not is_fitting(side))


def most_pixels(free_bytes: float) -> int:
    """The size of a canvas beyond which no plan has room, whatever it asks for.

    Rounded up, so that it is not another one at each look.
    """
    side = fitting_side(_LEANEST, _SIDE_MAX, _SIDE_MAX, free_bytes)
    return (-(-side // _SIDE_STEP) * _SIDE_STEP) ** 2
