from dataclasses import replace
from itertools import count

import pytest
import safetensors.torch
import torch
from torch import Tensor

from workers.engine.errors import Diverged, PlanError, ShapeError
from workers.engine.objective import Objective
from workers.engine.pictures import noise, resized, to_image, to_picture
from workers.engine.plan import Init, Plan
from workers.engine.render import Progress, Render, Style
from workers.engine.styles import StyleCache, style_target
from workers.engine.vgg import Vgg

NOISE = Plan(init="noise", iterations=8)


def finished(render: Render) -> Render:
    while not render.is_finished:
        render.step()
    return render


def test_a_render_from_noise_gets_far_in_few_iterations(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    """Measured: the total falls to 1/17 in 30 iterations."""
    render = Render(replace(NOISE, iterations=30), vgg, content, [Style(style)])
    start = render.progress.losses.total
    assert finished(render).progress.losses.total < start / 10


def test_adam_gets_there_too(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    """Measured: 1/7 in 30 iterations."""
    plan = replace(NOISE, iterations=30, optimizer="adam", learning_rate=10.0)
    render = Render(plan, vgg, content, [Style(style)])
    start = render.progress.losses.total
    assert finished(render).progress.losses.total < start / 5


@pytest.mark.parametrize("init", ["noise", "content"])
def test_the_loss_of_the_saved_picture_is_the_loss_that_was_reported(
    vgg: Vgg, content: Tensor, style: Tensor, init: Init
) -> None:
    plan = replace(NOISE, init=init, iterations=20)
    render = finished(Render(plan, vgg, content, [Style(style)]))
    target = style_target(vgg, to_image(style), plan.style_layers, plan.pooling, plan.precision)
    objective = Objective(plan, vgg, to_image(content), [(target, 1.0)])
    saved, _ = objective.evaluate(to_image(render.image()))
    assert saved[0].item() == pytest.approx(render.progress.losses.total, rel=0.01)


def test_the_same_seed_gives_the_same_picture_and_another_gives_another(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    first, again, other = (
        finished(Render(replace(NOISE, seed=seed), vgg, small, [Style(style)])).image()
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("before", [0, 1, 5, 8])
def test_a_restored_render_goes_on_to_the_bit(
    vgg: Vgg, small: Tensor, style: Tensor, optimizer: str, before: int
) -> None:
    plan = replace(NOISE, optimizer=optimizer)
    first = Render(plan, vgg, small, [Style(style)])
    for _ in range(before):
        first.step()
    file = safetensors.torch.save(first.state_dict())

    second = Render(plan, vgg, small, [Style(style)])
    second.load_state_dict(safetensors.torch.load(file))
    assert second.progress._replace(seconds=0) == first.progress._replace(seconds=0)
    assert torch.equal(second.image(), first.image())
    finished(first), finished(second)
    assert second.progress.losses == first.progress.losses
    assert all(map(torch.equal, second.state_dict().values(), first.state_dict().values()))


def test_a_state_is_not_touched_by_later_steps(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    render = Render(NOISE, vgg, small, [Style(style)])
    for _ in range(3):
        render.step()
    state = render.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    finished(render)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_the_state_of_another_canvas_is_refused(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    state = Render(NOISE, vgg, content[:48], [Style(style)]).state_dict()
    with pytest.raises(ShapeError, match=r"\(1, 3, 48, 64\).*\(1, 3, 64, 64\)"):
        Render(NOISE, vgg, content, [Style(style)]).load_state_dict(state)


def test_a_loss_that_is_not_finite_ends_the_render_with_its_iteration(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    """At the content picture the content loss is 0, whatever its weight; one step on it is not."""
    render = Render(Plan(content_weight=1e38), vgg, small, [Style(style)])
    with pytest.raises(Diverged, match="inf in iteration 1"):
        render.step()


BLACK = torch.zeros(32, 32, 3, dtype=torch.uint8)
ORANGE = torch.tensor([255, 128, 0], dtype=torch.uint8).expand(32, 32, 3)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("init", ["content", "noise"])
@pytest.mark.parametrize(
    ("content", "style"), [(BLACK, ORANGE), (ORANGE, BLACK), (BLACK, BLACK), (ORANGE, ORANGE)]
)
def test_flat_pictures_are_rendered_like_any(
    vgg: Vgg, content: Tensor, style: Tensor, init: Init, optimizer: str
) -> None:
    rates = {"lbfgs": 1.0, "adam": 10.0}
    plan = Plan(iterations=5, init=init, optimizer=optimizer, learning_rate=rates[optimizer])
    render = Render(plan, vgg, content, [Style(style)])
    start = render.progress.losses.total
    assert finished(render).progress.losses.total <= start


def test_content_that_is_its_own_style_stays_as_it_is(vgg: Vgg, small: Tensor) -> None:
    render = finished(Render(Plan(iterations=4), vgg, small, [Style(small)]))
    assert torch.equal(render.image(), small)
    assert render.progress.losses.total == 0


@pytest.mark.parametrize("init", ["content", "noise", "style", "asset"])
def test_a_render_starts_where_its_plan_says(
    vgg: Vgg, content: Tensor, style: Tensor, init: Init
) -> None:
    asset = style.flip(1)
    plan = replace(NOISE, init=init, seed=3)
    render = Render(plan, vgg, content, [Style(style)], init=asset)
    starts = {
        "content": to_image(content),
        "noise": noise(64, 64, seed=3),
        "style": resized(to_image(style), 64, 64),
        "asset": resized(to_image(asset), 64, 64),
    }
    assert torch.equal(render.image(), to_picture(starts[init]))
    assert render.progress.iteration == 0


def test_a_start_that_was_not_given_is_refused(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    with pytest.raises(PlanError, match="no picture to start from"):
        Render(replace(NOISE, init="asset"), vgg, small, [Style(style)])


def test_a_render_without_styles_is_refused(vgg: Vgg, small: Tensor) -> None:
    with pytest.raises(PlanError, match="at least one"):
        Render(NOISE, vgg, small, [])


def test_a_picture_too_small_for_the_layers_is_refused(vgg: Vgg, content: Tensor) -> None:
    with pytest.raises(ShapeError, match="12 x 64 px"):
        Render(NOISE, vgg, content, [Style(content[:, :12])])


def test_progress_counts_iterations_and_the_seconds_of_the_last(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    ticks = count(100.0, 0.5)
    render = Render(
        replace(NOISE, iterations=2), vgg, small, [Style(style)], clock=lambda: next(ticks)
    )
    reports: list[Progress] = [render.progress]
    while not render.is_finished:
        reports.append(render.step())
    assert [(p.iteration, p.iterations, p.seconds) for p in reports] == [
        (0, 2, 0.5),
        (1, 2, 0.5),
        (2, 2, 0.5),
    ]
    assert render.progress == reports[-1]


def test_styles_with_a_name_are_looked_at_once_and_others_each_time(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    cache = StyleCache()
    for asset, kept in (("", 0), ("stripes", 1), ("stripes", 1), ("others", 2)):
        Render(NOISE, vgg, small, [Style(style, asset=asset)], cache=cache)
        assert cache.size_bytes == kept * 4 * (64**2 + 128**2 + 256**2 + 2 * 512**2)
    half = style[::2, ::2].contiguous()
    Render(NOISE, vgg, small, [Style(half, asset="stripes")], cache=cache)
    assert cache.size_bytes == 3 * 4 * (64**2 + 128**2 + 256**2 + 2 * 512**2)


def test_two_styles_give_another_picture_than_either(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    one, other = Style(style), Style(ORANGE)
    pictures = [
        finished(Render(NOISE, vgg, small, styles)).image()
        for styles in ([one], [other], [one, other])
    ]
    assert not torch.equal(pictures[2], pictures[0])
    assert not torch.equal(pictures[2], pictures[1])


def test_a_render_in_bfloat16_comes_close_to_one_in_float32(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    exact, rounded = (
        finished(Render(replace(NOISE, precision=p), vgg, small, [Style(style)]))
        for p in ("float32", "bfloat16")
    )
    assert not torch.equal(rounded.image(), exact.image())
    assert rounded.progress.losses.total == pytest.approx(exact.progress.losses.total, rel=0.1)
