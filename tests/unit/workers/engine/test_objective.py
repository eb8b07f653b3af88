from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.workers.engine.errors import PlanError, ShapeError
from impasto.workers.engine.layers import CHANNELS
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.objective import Losses, Objective, _losses, evaluate
from impasto.workers.engine.objective.regions import Region
from impasto.workers.engine.objective.styles import style_target
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pictures import noise, to_image
from tests.unit.workers.engine import reference
from tests.unit.workers.engine.reference import Part, error

PLAN = replace(
    PLAIN,
    content_layers={"relu3_2": 0.5, "conv2_1": 2.0},
    style_layers={"relu1_1": 0.3, "conv2_2": 0.7},
    content_weight=3.0,
    style_weight=40.0,
    tv_weight=5.0,
)
# The content's part of the gradient is the larger in the report's own units; here each counts.
EVEN = replace(PLAN, content_weight=1e-2, style_weight=100.0, tv_weight=10.0)
LITTLE = 1  # byte: the thinnest strips


@pytest.fixture
def canvas(content: Tensor) -> Tensor:
    """(1, 3, 40, 37): odd, and no multiple of anything."""
    return to_image(content[8:48, 4:41])


@pytest.fixture
def stripes(style: Tensor) -> Tensor:
    return to_image(style[:35, :50])


@pytest.fixture
def disc(content: Tensor) -> Tensor:
    return to_image(content[20:64, :31])


@pytest.fixture
def image() -> Tensor:
    """Where no ReLU is different in float64: see `reference`."""
    return noise(40, 37, seed=5)


def objective(vgg: Vgg, plan: Plan, canvas: Tensor, parts: Sequence[Part]) -> Objective:
    def target(picture: Tensor) -> Any:
        return style_target(
            vgg, picture, plan.style_layers, pooling=plan.pooling, precision=plan.precision
        )

    regions = [
        Region([(target(picture), share) for picture, share in part.styles], part.mask)
        for part in parts
    ]
    return Objective(plan, vgg, canvas, regions)


def evaluated(found: Objective, image: Tensor, **options: Any) -> tuple[Losses, Tensor]:
    losses, gradient = evaluate([found], image, **options)
    return Losses(*losses[0].tolist()), gradient


def half(height: int = 40, width: int = 37) -> Tensor:
    """A mask: white on the left, with a border that no layer's cells respect."""
    return (torch.arange(width) < width // 2).float().expand(height, width).contiguous()


def test_the_losses_are_the_reports_formulas_over_the_networks_features(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor
) -> None:
    """In float64 and NumPy, with the Grams as plain sums, divided where the report divides."""
    found, _ = evaluated(objective(vgg, PLAN, canvas, [Part([(stripes, 1.0)])]), image)

    def features(picture: Tensor, layer: str) -> NDArray[np.float64]:
        maps: NDArray[np.float64] = reference.features(vgg.weights, picture, [layer])[layer].numpy()
        return maps.reshape(maps.shape[1], -1)

    content = sum(
        weight * ((features(image, layer) - features(canvas, layer)) ** 2).sum() / 2
        for layer, weight in (("3_2", 0.5), ("2_1", 2.0))
    )
    style = 0.0
    for layer, weight in (("1_1", 0.3), ("2_2", 0.7)):
        f, a = features(image, layer), features(stripes, layer)
        n, m = f.shape
        difference = f @ f.T - a @ a.T * (m / a.shape[1])
        style += weight * (difference**2).sum() / (4 * n**2 * m**2)
    pixels = image[0].numpy().astype(np.float64)
    tv = (np.diff(pixels, axis=1) ** 2).sum() + (np.diff(pixels, axis=2) ** 2).sum()

    expected = (3 * content + 40 * style + 5 * tv, content, style, tv)
    assert found == pytest.approx(expected, rel=1e-5)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "one style": ({}, "one"),
    "content alone": ({"style_layers": {}, "tv_weight": 0.0}, "one"),
    "style alone": ({"content_layers": {}, "tv_weight": 0.0}, "one"),
    "total variation": ({"content_weight": 0.0, "style_weight": 0.0}, "one"),
    "total variation without layers": ({"content_layers": {}, "style_layers": {}}, "one"),
    "one layer for both": ({"content_layers": {"relu2_2": 1.0}}, "one"),
    "as deep as the report": (
        {"content_layers": {"relu4_2": 1.0}, "style_layers": {"relu1_1": 0.5, "relu5_1": 0.5}},
        "one",
    ),
    "several styles": ({}, "several"),
    "masks": ({}, "masked"),
    "a mask, and a style everywhere": ({}, "mixed"),
    "max pooling": ({"pooling": "max"}, "one"),
    "max pooling and masks": ({"pooling": "max"}, "mixed"),
    "normalized": ({"normalize_gradients": True}, "one"),
    "normalized, several styles": ({"normalize_gradients": True}, "several"),
}


@pytest.fixture
def parts(stripes: Tensor, disc: Tensor) -> dict[str, list[Part]]:
    left = half()
    ramp = torch.linspace(0, 1, 40).view(40, 1).expand(40, 37)
    return {
        "one": [Part([(stripes, 1.0)])],
        "several": [Part([(stripes, 0.3), (disc, 0.7)])],
        "masked": [Part([(stripes, 0.4)], left), Part([(disc, 0.6)], 1 - left)],
        "mixed": [Part([(stripes, 0.4)]), Part([(disc, 0.6)], ramp)],
    }


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradient_are_those_of_autograd(
    vgg: Vgg, canvas: Tensor, image: Tensor, parts: dict[str, list[Part]], case: str
) -> None:
    changes, chosen = CASES[case]
    plan = replace(EVEN, **changes)
    expected, autograd = reference.evaluate(vgg.weights, plan, canvas, parts[chosen], image)
    for budget_bytes in (None, LITTLE):
        found = objective(vgg, plan, canvas, parts[chosen])
        losses, gradient = evaluated(found, image, budget_bytes=budget_bytes)
        assert losses == pytest.approx(expected, rel=1e-5)
        assert error(gradient, autograd) < 1e-5


@pytest.mark.parametrize("chosen", ["several", "mixed"])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_strips_give_what_the_whole_gives(
    vgg: Vgg, stripes: Tensor, disc: Tensor, chosen: str, pooling: Any
) -> None:
    """Of a batch, tall enough that two blocks are passed in strips."""
    height, width = 87, 19
    plans = replace(EVEN, pooling=pooling), replace(PLAN, pooling=pooling, normalize_gradients=True)
    mask = half(height, width) if chosen == "mixed" else None
    regions = [Part([(stripes, 0.4), (disc, 0.2)]), Part([(disc, 0.4)], mask)]
    canvas = noise(height, width, seed=7)
    images = torch.cat([noise(height, width, seed=seed) for seed in (8, 9)])

    def evaluated_by(budget_bytes: int | None) -> tuple[Tensor, Tensor]:
        objectives = [objective(vgg, plan, canvas, regions) for plan in plans]
        return evaluate(objectives, images, budget_bytes=budget_bytes)

    (whole, gradients), (strips, by_strips) = evaluated_by(None), evaluated_by(LITTLE)
    torch.testing.assert_close(strips, whole, rtol=1e-6, atol=0)
    for b in range(2):
        assert error(by_strips[b], gradients[b]) < 1e-5


def test_the_gradient_says_how_the_total_changes(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor
) -> None:
    found = objective(vgg, EVEN, canvas, [Part([(stripes, 1.0)])])
    _, gradient = evaluated(found, image)
    along = 0.05 * gradient / gradient.abs().mean()
    uphill, downhill = (evaluated(found, image + way * along)[0].total for way in (1, -1))
    expected = (gradient.double() * along.double()).sum().item()
    assert (uphill - downhill) / 2 == pytest.approx(expected, rel=0.01)


def test_normalized_gradients_are_as_long_as_their_weights(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, disc: Tensor, image: Tensor
) -> None:
    """The layer's own gradient, and its direction that of autograd in float64."""
    weights = {"relu1_1": 0.3, "relu2_2": 0.7, "relu3_1": 0.0}
    for plan in (
        replace(PLAN, content_layers={}, style_layers=weights, normalize_gradients=True),
        replace(PLAN, content_layers=weights, style_layers={}, normalize_gradients=True),
    ):
        found = objective(vgg, plan, canvas, [Part([(stripes, 0.3), (disc, 0.7)])])
        plain = objective(
            vgg,
            replace(plan, normalize_gradients=False),
            canvas,
            [Part([(stripes, 0.3), (disc, 0.7)])],
        )
        factor = plan.style_weight if plan.style_layers else plan.content_weight
        for name, weight in weights.items():
            normalized, steep = (pulled(o, vgg, image, name[4:]) for o in (found, plain))
            assert normalized.norm().item() == pytest.approx(factor * weight, rel=1e-4)
            if weight:
                assert error(normalized / normalized.norm(), steep / steep.norm()) < 1e-5


def pulled(found: Objective, vgg: Vgg, image: Tensor, layer: str) -> Tensor:
    """What a layer gives to its gradient in one evaluation."""
    features = {
        name: maps[0].permute(1, 2, 0).float().contiguous()
        for name, maps in reference.features(vgg.weights, image, found.layers).items()
    }
    found.begin(image[0], lambda: None)
    for name, maps in features.items():
        found.on_features(name, maps, 0)
    _losses([found], image, torch.empty_like(image))
    gradient = torch.zeros_like(features[layer])
    found.add_gradient(layer, features[layer], gradient, 0)
    return gradient


def test_a_normalized_gradient_of_nothing_is_nothing(vgg: Vgg, canvas: Tensor) -> None:
    plan = replace(PLAN, normalize_gradients=True, style_layers={}, tv_weight=0.0)
    _, gradient = evaluated(objective(vgg, plan, canvas, []), canvas)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_nothing_is_lost_where_content_and_style_are_the_image(vgg: Vgg, canvas: Tensor) -> None:
    found, gradient = evaluated(
        objective(vgg, replace(PLAN, tv_weight=0.0), canvas, [Part([(canvas, 1.0)])]), canvas
    )
    assert (found.content, found.style) == (0, 0)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_several_styles_add_up_by_their_shares(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, disc: Tensor, image: Tensor
) -> None:
    def style_of(*styles: tuple[Tensor, float]) -> float:
        return evaluated(objective(vgg, PLAN, canvas, [Part(styles)]), image)[0].style

    expected = 0.25 * style_of((stripes, 1)) + 0.75 * style_of((disc, 1))
    assert style_of((stripes, 0.25), (disc, 0.75)) == pytest.approx(expected, rel=1e-6)


def test_a_white_mask_is_no_mask(vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor) -> None:
    white = objective(vgg, EVEN, canvas, [Part([(stripes, 1.0)], torch.ones(40, 37))])
    losses, gradient = evaluated(white, image)
    expected, whole = evaluated(objective(vgg, EVEN, canvas, [Part([(stripes, 1.0)])]), image)
    assert losses == pytest.approx(expected, rel=1e-6)
    assert error(gradient, whole) < 1e-6


def test_a_style_pulls_only_where_its_mask_is_white(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor
) -> None:
    """And as far as the layers see: two convolutions, a pool, two more."""
    plan = replace(PLAN, content_weight=0.0, tv_weight=0.0)
    found = objective(vgg, plan, canvas, [Part([(stripes, 1.0)], half())])
    _, gradient = evaluated(found, image)
    assert gradient[..., :18].abs().amin(dim=(1, 2)).gt(0).any()
    assert not gradient[..., 18 + 1 + 6 + 1 :].any()


def test_a_black_mask_is_refused(vgg: Vgg, canvas: Tensor, stripes: Tensor) -> None:
    with pytest.raises(PlanError, match="a mask is black everywhere, accepted: some of it white"):
        objective(vgg, PLAN, canvas, [Part([(stripes, 1.0)], torch.zeros(40, 37))])


def test_a_canvas_too_small_for_its_layers_is_refused(vgg: Vgg) -> None:
    with pytest.raises(ShapeError, match="relu3_2 needs at least 4 px"):
        objective(vgg, PLAN, noise(3, 20, seed=1), [])


def rows_depend_on_their_count() -> bool:
    """As by MKL's code for any processor: see "On other machines" in docs/reliability.md."""
    rows, matrix = torch.randn(2, 128, 128, generator=torch.manual_seed(1))
    return not torch.equal((rows @ matrix)[:30], rows[:30] @ matrix)


@pytest.mark.parametrize("budget_bytes", [None, LITTLE], ids=["whole", "strips"])
def test_content_is_learnt_at_the_first_look_whatever_is_looked_at(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor, budget_bytes: int | None
) -> None:
    """From the content itself in passing; from any other image by a passage of its own."""
    parts = [Part([(stripes, 1.0)])]
    in_passing, apart = (objective(vgg, PLAN, canvas, parts) for _ in range(2))
    first, _ = evaluated(in_passing, canvas, budget_bytes=budget_bytes)
    assert first.content == 0
    after, gradient = evaluated(in_passing, image, budget_bytes=budget_bytes)
    expected, same = evaluated(apart, image, budget_bytes=budget_bytes)
    if budget_bytes and rows_depend_on_their_count():
        torch.testing.assert_close(gradient, same, rtol=1e-4, atol=1e-4 * same.abs().max().item())
    else:
        assert after == expected
        assert torch.equal(gradient, same)


def test_content_is_learnt_once(vgg: Vgg, canvas: Tensor, image: Tensor) -> None:
    found = objective(vgg, replace(PLAN, style_layers={}), canvas, [])
    counts = []
    for picture in (image, image, canvas):
        asked: list[None] = []
        evaluated(found, picture, check=lambda asked=asked: asked.append(None))
        counts.append(len(asked))
    assert counts == [3 + 6, 6, 6]  # blocks, down and up


class Enough(Exception):
    pass


def ended_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls))

    def check() -> None:
        if next(left, None) is None:
            raise Enough

    return check


@pytest.mark.parametrize("start", ["content", "noise"])
def test_a_first_look_that_is_ended_leaves_nothing_behind(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor, start: str
) -> None:
    """As where memory ran out in it: the next evaluation learns the content once more."""
    parts = [Part([(stripes, 1.0)])]
    expected, same = evaluated(objective(vgg, PLAN, canvas, parts), image)
    for calls in range(6):  # three blocks down and up
        found = objective(vgg, PLAN, canvas, parts)
        with pytest.raises(Enough):
            evaluated(found, canvas if start == "content" else image, check=ended_after(calls))
        again, gradient = evaluated(found, image)
        assert again == expected
        assert torch.equal(gradient, same)


def test_a_batchs_results_are_those_of_each_alone_to_the_bit(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, disc: Tensor
) -> None:
    """Of different layers, weights and styles; some were evaluated before."""
    left = half()
    makes = [
        lambda: objective(vgg, PLAN, canvas, [Part([(stripes, 1.0)])]),
        lambda: objective(
            vgg,
            replace(EVEN, style_layers={"relu3_1": 1.0}, content_layers={"relu1_2": 1.0}),
            canvas,
            [Part([(disc, 0.5)], left), Part([(stripes, 0.5)], 1 - left)],
        ),
        lambda: objective(
            vgg,
            replace(PLAN, content_layers={"conv4_1": 1.0}, normalize_gradients=True),
            canvas.flip(-1),
            [Part([(disc, 0.2), (stripes, 0.8)])],
        ),
        lambda: objective(
            vgg, replace(PLAN, content_layers={}, style_layers={"conv1_1": 1.0}), canvas, []
        ),
    ]
    images = torch.cat([canvas, *(noise(40, 37, seed=seed) for seed in (5, 6, 7))])
    together = [make() for make in makes]
    evaluated(together[1], images[:1])
    losses, gradients = evaluate(together, images)
    for b, make in enumerate(makes):
        alone = make()
        evaluated(alone, images[b : b + 1])
        found, gradient = evaluate([alone], images[b : b + 1])
        assert torch.equal(found[0], losses[b])
        assert torch.equal(gradient[0], gradients[b])


def test_bfloat16_stays_close_to_float32(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor
) -> None:
    parts = [Part([(stripes, 0.5)]), Part([(stripes, 0.5)], half())]
    exact, gradient = evaluated(objective(vgg, EVEN, canvas, parts), image)
    rounded = replace(EVEN, precision="bfloat16")
    losses, close = evaluated(objective(vgg, rounded, canvas, parts), image)
    assert losses == pytest.approx(exact, rel=0.02)
    assert losses.style != exact.style
    assert close.dtype == torch.float32
    assert error(close, gradient) < 0.05


def test_it_listens_to_every_layer_that_the_plan_names(vgg: Vgg, canvas: Tensor) -> None:
    assert objective(vgg, PLAN, canvas, []).layers == {"1_1", "2_1", "2_2", "3_2"} <= set(CHANNELS)


def test_evaluating_leaves_no_trace_on_the_image(
    vgg: Vgg, canvas: Tensor, stripes: Tensor, image: Tensor
) -> None:
    kept, kept_canvas = image.clone(), canvas.clone()
    found = objective(vgg, PLAN, canvas, [Part([(stripes, 1.0)])])
    losses, gradient = evaluate([found], image)
    evaluate([found], canvas)
    assert torch.equal(image, kept)
    assert torch.equal(canvas, kept_canvas)
    assert not any(tensor.requires_grad for tensor in (image, losses, gradient))
