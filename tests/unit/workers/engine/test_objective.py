import numpy as np
import pytest
import torch
from torch import Tensor

from workers.engine.objective import Losses, Objective
from workers.engine.pictures import noise, to_image
from workers.engine.plan import Plan
from workers.engine.styles import StyleTarget, style_target
from workers.engine.vgg import Vgg

PLAN = Plan(
    content_layers={"relu3_2": 0.5, "conv2_1": 2.0},
    style_layers={"relu1_1": 0.3, "conv2_2": 0.7},
    content_weight=3.0,
    style_weight=40.0,
    tv_weight=5.0,
)


def target(vgg: Vgg, picture: Tensor, plan: Plan = PLAN) -> StyleTarget:
    image = to_image(picture)
    return style_target(vgg, image, plan.style_layers, plan.pooling, plan.precision)


def losses(objective: Objective, image: Tensor) -> Losses:
    return Losses(*objective.evaluate(image)[0].tolist())


def test_the_losses_are_the_reports_formulas_over_the_networks_features(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    """In float64 and NumPy, with the Grams as plain sums, divided where the report divides."""
    image = noise(64, 64, seed=5)
    found = losses(Objective(PLAN, vgg, to_image(content), [(target(vgg, style), 1.0)]), image)

    def features(image: Tensor, layer: str) -> np.ndarray:
        maps = vgg.features(image, [layer], "avg")[layer]
        return maps[0].flatten(1).numpy().astype(np.float64)

    content_sum = sum(
        weight * ((features(image, layer) - features(to_image(content), layer)) ** 2).sum() / 2
        for layer, weight in PLAN.content_layers.items()
    )
    style_sum = 0.0
    for layer, weight in PLAN.style_layers.items():
        f, a = features(image, layer), features(to_image(style), layer)
        n, m = f.shape
        difference = f @ f.T - a @ a.T * (m / a.shape[1])
        style_sum += weight * (difference**2).sum() / (4 * n**2 * m**2)
    pixels = image[0].numpy().astype(np.float64)
    tv = (np.diff(pixels, axis=1) ** 2).sum() + (np.diff(pixels, axis=2) ** 2).sum()

    assert found.content == pytest.approx(content_sum, rel=1e-4)
    assert found.style == pytest.approx(style_sum, rel=1e-4)
    assert found.tv == pytest.approx(tv, rel=1e-5)
    assert found.total == pytest.approx(3 * content_sum + 40 * style_sum + 5 * tv, rel=1e-4)


def test_the_gradient_says_how_the_total_changes(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    objective = Objective(
        Plan(tv_weight=1.0), vgg, to_image(content), [(target(vgg, style, Plan()), 1)]
    )
    image = to_image(content) + torch.linspace(-3, 3, 64)
    _, gradient = objective.evaluate(image)
    along = 0.05 * gradient / gradient.abs().mean()
    uphill, downhill = (losses(objective, image + way * along).total for way in (1, -1))
    expected = (gradient.double() * along.double()).sum().item()
    assert (uphill - downhill) / 2 == pytest.approx(expected, rel=0.01)


def test_nothing_is_lost_where_content_and_style_are_the_image(vgg: Vgg, content: Tensor) -> None:
    image = to_image(content)
    objective = Objective(PLAN, vgg, image, [(target(vgg, content), 1.0)])
    found = losses(objective, image)
    assert (found.content, found.style) == (0, 0)


def test_only_the_shares_of_the_styles_matter_and_not_their_sum(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    image, stripes = noise(64, 64, seed=5), target(vgg, style)
    once = losses(Objective(PLAN, vgg, image, [(stripes, 1.0)]), image)
    twice = losses(Objective(PLAN, vgg, image, [(stripes, 3.0), (stripes, 5.0)]), image)
    assert twice.style == pytest.approx(once.style, rel=1e-6)


def test_several_styles_add_up_by_their_shares(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    image, stripes, disc = noise(64, 64, seed=5), target(vgg, style), target(vgg, content)

    def style_of(*styles: tuple[StyleTarget, float]) -> float:
        return losses(Objective(PLAN, vgg, image, styles), image).style

    expected = 0.25 * style_of((stripes, 1)) + 0.75 * style_of((disc, 1))
    assert style_of((stripes, 1), (disc, 3)) == pytest.approx(expected, rel=1e-5)


def test_evaluating_leaves_no_trace_on_the_image(vgg: Vgg, content: Tensor) -> None:
    image = to_image(content)
    kept = image.clone()
    found, gradient = Objective(PLAN, vgg, image, [(target(vgg, content), 1)]).evaluate(image)
    assert torch.equal(image, kept)
    assert not any(tensor.requires_grad for tensor in (image, found, gradient))
