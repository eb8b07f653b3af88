"""The recipe `report` beside a plain implementation in float64, by torch's autograd.

Rounding grows from move to move: `python -m bench.report` shows how far each has come after 100.
"""

import pytest
import torch
from torch import Tensor

from impasto.shared.spec import JobSpec
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.optim.optimizers import Evaluation
from impasto.workers.engine.render.memory_estimate import make_optimizer
from impasto.workers.engine.render.pictures import clamped, noise, to_image
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from impasto.workers.spec_to_plan import plan_of
from tests.unit.workers.engine import reference

ITERATIONS = 6


def test_the_recipe_report_makes_the_moves_of_float64(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    asked = JobSpec(content="a" * 64, styles=["b" * 64], recipe="report", iterations=ITERATIONS)
    plan = plan_of(asked, "float32")
    assert (plan.init, plan.seed, plan.pyramid, plan.tv_weight) == ("noise", 0, 1, 0.0)
    assert (plan.content_weight, plan.style_weight) == (1.0, 1000.0)
    render = Render(plan, vgg, content, [Style(style)])
    canvas = to_image(content)
    parts = [reference.Part([(to_image(style), 1.0)])]

    def evaluated(image: Tensor) -> tuple[Tensor, Evaluation]:
        losses, gradient = reference.evaluate(vgg.weights, plan, canvas, parts, image.clone())
        return torch.tensor(losses.total, dtype=torch.float64), Evaluation(image, gradient)

    optimizer = make_optimizer(plan, canvas)
    move = type(optimizer)
    least, last = evaluated(noise(*canvas.shape[-2:], plan.seed).double())
    move.update([optimizer], [None], last, [torch.tensor(False)])
    assert render.step().losses.total == pytest.approx(float(least), rel=1e-4)
    for _ in range(ITERATIONS):
        total, here = evaluated(clamped(move.step([optimizer], last)))
        (goes_on,) = move.update([optimizer], [last], here, [total > least])
        last = here if goes_on else last
        least = torch.minimum(least, total)
        assert render.step().losses.total == pytest.approx(float(least), rel=1e-2)
    assert render.is_finished
