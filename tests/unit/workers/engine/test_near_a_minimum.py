"""Starts that an optimiser can hardly improve: what is delivered is never worse, and is the best.

`IMPASTO_TEST_STARTS=200` (`make test-deep`) goes through as many of them; by default each kind is
met once with each optimiser and each pyramid.
"""

import csv
import io
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from impasto.workers.engine.layers import OptimizerName
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.objective import Objective, evaluate
from impasto.workers.engine.objective.regions import Region
from impasto.workers.engine.objective.styles import style_target
from impasto.workers.engine.plan import PLAIN, Init, Plan
from impasto.workers.engine.render.pictures import resized, to_image
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from impasto.workers.loss_history import LossHistory

SAMPLES = Path(__file__).parents[4] / "samples"
KINDS = ("finished", "flat", "equal")
OPTIMIZERS: tuple[tuple[OptimizerName, float], ...] = (("lbfgs", 1.0), ("adam", 10.0))
PYRAMIDS = (1, 2, 4)
COUNT = int(os.environ.get("IMPASTO_TEST_STARTS", len(KINDS) * len(OPTIMIZERS) * len(PYRAMIDS)))
COLORS = ((0, 0, 0), (255, 255, 255), (90, 90, 90), (255, 128, 0), (10, 200, 30))
ITERATIONS = (4, 1, 2, 3, 24)
# What the same picture may differ by, where whole features and strips are added up: squares of what
# float32 leaves of Grams. Losses of other pictures are 1e6 and more.
ROUNDING = 1e-2


class Start(NamedTuple):
    """A plan whose `init` is near its minimum, and the pictures that it takes."""

    name: str
    plan: Plan
    content: Tensor
    style: Tensor
    init: Tensor | None = None


def start(number: int, vgg: Vgg) -> Start:
    """The kind, the optimiser and the pyramid change the fastest; pictures and all else follow."""
    rest, kind = divmod(number, len(KINDS))
    rest, optimizer = divmod(rest, len(OPTIMIZERS))
    turn, pyramid = divmod(rest, len(PYRAMIDS))
    name, rate = OPTIMIZERS[optimizer]
    plan = replace(
        PLAIN,
        init="content",
        iterations=ITERATIONS[turn % len(ITERATIONS)],
        optimizer=name,
        learning_rate=rate,
        pyramid=PYRAMIDS[pyramid],
        style_weight=(1e3, 10.0, 1e5)[turn % 3],
        tv_weight=(0.0, 1.0)[turn % 2],
        patience=(0, 0, 2)[turn % 3],
    )
    # Four sizes need 256 px; three do else, for the time that they take.
    side = 64 if plan.pyramid < 4 else (128, 128, 128, 256)[turn % 4]
    label = f"{KINDS[kind]}-{name}-pyramid{plan.pyramid}-{plan.iterations}its-{side}px-{turn}"
    photograph, painting = crop("skyline", turn, side), crop("brushstrokes", turn, side)
    match KINDS[kind]:
        case "finished":
            made = finished(vgg, turn, side, plan.style_weight)
            return Start(label, replace(plan, init="asset"), photograph, painting, made)
        case "flat":
            color, other = flat(turn, side), flat(turn + turn // 2, side)
            return Start(label, plan, color, other if turn % 3 else painting)
        case _:
            same = painting if turn % 2 else photograph
            inits: tuple[Init, ...] = ("content", "style", "asset")
            return Start(label, replace(plan, init=inits[turn % 3]), same, same, same)


def crop(name: str, turn: int, side: int) -> Tensor:
    """A part of a sample, uint8 (side, side, 3), another one each turn."""
    with Image.open(SAMPLES / f"{name}.jpg") as picture:
        scaled = picture.convert("RGB").resize((3 * side, 2 * side), Image.Resampling.LANCZOS)
    left, top = turn * 29 % (2 * side), turn * 17 % side
    return torch.from_numpy(np.array(scaled.crop((left, top, left + side, top + side))))


def flat(turn: int, side: int) -> Tensor:
    color = torch.tensor(COLORS[turn % len(COLORS)], dtype=torch.uint8)
    return color.expand(side, side, 3).contiguous()


@cache
def finished(vgg: Vgg, turn: int, side: int, style_weight: float) -> Tensor:
    """What L-BFGS made of the turn's pictures, as a file would hold it."""
    plan = replace(PLAIN, iterations=15, pyramid=1, style_weight=style_weight)
    content, painting = crop("skyline", turn, side), crop("brushstrokes", turn, side)
    render = Render(plan, vgg, content, [Style(painting)])
    while not render.is_finished:
        render.step()
    return render.image().round().to(torch.uint8)


def loss(vgg: Vgg, given: Start, image: Tensor) -> float:
    """Of an image of the canvas's size, by the report's weights."""
    target = style_target(
        vgg,
        to_image(given.style),
        given.plan.style_layers,
        pooling=given.plan.pooling,
        precision=given.plan.precision,
    )
    objective = Objective(given.plan, vgg, to_image(given.content), [Region([(target, 1.0)])])
    losses, _ = evaluate([objective], image)
    return float(losses[0, 0])


@pytest.mark.parametrize("number", range(COUNT))
def test_a_start_near_its_minimum_ends_no_worse_and_with_the_best_of_its_rows(
    vgg: Vgg, number: int
) -> None:
    given = start(number, vgg)
    render = Render(given.plan, vgg, given.content, [Style(given.style)], init=given.init)
    history = LossHistory()
    while not render.is_finished:
        history.enter(render.step())

    picture = render.image().permute(2, 0, 1).unsqueeze(0).contiguous()
    first = {"content": given.content, "style": given.style, "asset": given.init}[given.plan.init]
    at_first = loss(vgg, given, resized(to_image(first), *given.content.shape[:2]))
    at_last = loss(vgg, given, picture)
    rows = list(csv.DictReader(io.StringIO(history.csv().decode())))
    least = min(float(row["total"]) for row in rows if row["level"] == rows[-1]["level"])
    best = next(row for row in rows if int(row["iteration"]) == history.best)

    assert at_last <= at_first, given.name
    assert at_last == pytest.approx(least, rel=1e-5, abs=ROUNDING), given.name
    assert history.losses()["total"] == least == float(best["total"])
    assert best["level"] == rows[-1]["level"]
    assert (int(best["width"]), int(best["height"])) == (picture.shape[3], picture.shape[2])
