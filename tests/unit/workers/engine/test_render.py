import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor

from impasto.workers.engine.errors import Diverged, PlanError, ShapeError
from impasto.workers.engine.layers import OptimizerName
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.objective import Objective, evaluate
from impasto.workers.engine.objective.regions import Region
from impasto.workers.engine.objective.styles import StyleCache, style_target
from impasto.workers.engine.plan import PLAIN, Init, Plan
from impasto.workers.engine.render.pictures import noise, resized, to_image, to_picture
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Losses, Progress, Render

DEEP = replace(PLAIN, init="noise", iterations=8, pyramid=1)
NOISE = replace(  # three blocks: in the deeper two an evaluation takes most of its time
    DEEP,
    content_layers={"relu3_2": 1.0},
    style_layers={"relu1_1": 0.3, "relu2_1": 0.3, "relu3_1": 0.4},
)
OPTIMIZERS = get_args(OptimizerName)
# Where it matters how often, and at what size, but not what is seen.
SHALLOW = replace(NOISE, content_layers={"relu2_1": 1.0}, style_layers={"relu1_1": 1.0})


def finished(render: Render) -> Render:
    while not render.is_finished:
        render.step()
    return render


def same(one: Render, other: Render) -> bool:
    """Whether two renders are at one point, to the bit."""
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0]
    )


def test_a_render_from_noise_gets_far_in_few_iterations(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    """Measured: the total falls to 1/17 in 30 iterations."""
    render = Render(replace(DEEP, iterations=30), vgg, content, [Style(style)])
    start = render.step().losses.total
    assert finished(render).progress.losses.total < start / 10


def test_adam_gets_there_too(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    """Measured: 1/7 in 30 iterations."""
    plan = replace(NOISE, iterations=30, optimizer="adam", learning_rate=10.0)
    render = Render(plan, vgg, content, [Style(style)])
    start = render.step().losses.total
    assert finished(render).progress.losses.total < start / 5


@pytest.mark.parametrize("pyramid", [1, 2])
@pytest.mark.parametrize("init", ["noise", "content"])
def test_the_loss_of_the_picture_is_the_loss_that_was_reported(
    vgg: Vgg, content: Tensor, style: Tensor, init: Init, pyramid: int
) -> None:
    plan = replace(NOISE, init=init, pyramid=pyramid, tv_weight=2.0)
    render = finished(Render(plan, vgg, content, [Style(style)]))
    target = style_target(
        vgg, to_image(style), plan.style_layers, pooling=plan.pooling, precision=plan.precision
    )
    objective = Objective(plan, vgg, to_image(content), [Region([(target, 1.0)])])
    seen = render.image().permute(2, 0, 1).unsqueeze(0).contiguous()
    losses, _ = evaluate([objective], seen)
    assert Losses(*losses[0].tolist()) == render.progress.losses


def test_the_first_step_looks_and_each_other_moves_first(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    render = Render(NOISE, vgg, small, [Style(style)])
    start = render.image()
    assert math.isnan(render.progress.losses.total)
    assert render.step().iteration == 0
    assert torch.equal(render.image(), start)
    assert render.step().iteration == 1
    assert not torch.equal(render.image(), start)


def test_the_same_seed_gives_the_same_picture_and_another_gives_another(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    first, again, other = (
        finished(Render(replace(NOISE, seed=seed), vgg, small, [Style(style)])).image()
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def assert_restored_goes_on(make: Callable[[], Render], before: int) -> Render:
    """Through a file, as checkpoints go."""
    first, second = make(), make()
    for _ in range(before):
        first.step()
    second.load_state_dict(safetensors.torch.load(safetensors.torch.save(first.state_dict())))
    # Not a number before the first evaluation: compared as they are written.
    assert str(second.progress._replace(seconds=0)) == str(first.progress._replace(seconds=0))
    assert second.scale == first.scale
    assert second.is_finished == first.is_finished
    assert torch.equal(second.image(), first.image())
    finished(first), finished(second)
    assert second.progress._replace(seconds=0) == first.progress._replace(seconds=0)
    assert same(first, second)
    return second


@pytest.mark.parametrize(
    "plan",
    [
        replace(plan, optimizer=optimizer, iterations=3)
        for plan in (NOISE, replace(NOISE, init="content"), DEEP)
        for optimizer in OPTIMIZERS
    ],
)
@pytest.mark.parametrize("before", [0, 1, 2, 4])
def test_a_restored_render_goes_on_to_the_bit(
    vgg: Vgg, small: Tensor, style: Tensor, plan: Plan, before: int
) -> None:
    """From the content, the first learns its targets on the way, the second asks for them."""
    render = assert_restored_goes_on(lambda: Render(plan, vgg, small, [Style(style)]), before)
    assert render.iteration == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 3, 4, 5, 6, 9])
def test_a_render_restored_within_a_pyramid_goes_on_to_the_bit(
    vgg: Vgg, content: Tensor, style: Tensor, optimizer: OptimizerName, before: int
) -> None:
    """Of 9 evaluations the first 5 are at half the size: after them the next size is entered."""
    plan = replace(SHALLOW, optimizer=optimizer, pyramid=2)
    render = assert_restored_goes_on(lambda: Render(plan, vgg, content, [Style(style)]), before)
    assert (render.iteration, render.scale) == (8, 1)


@pytest.mark.parametrize("pyramid", [1, 2])
@pytest.mark.parametrize("before", [0, 2, 5, 8, 9])
def test_a_restored_render_has_as_much_patience_left(vgg: Vgg, pyramid: int, before: int) -> None:
    """Nothing ever falls here, so it ends 3 iterations after its best one at the last size."""
    plan = replace(SHALLOW, init="content", iterations=10, pyramid=pyramid, patience=3)
    picture = torch.full((64, 64, 3), 90, dtype=torch.uint8)

    def make() -> Render:
        return Render(plan, vgg, picture, [Style(picture)])

    count = 4 if pyramid == 1 else 10
    render = assert_restored_goes_on(make, min(before, count))
    assert render.iteration == count - 1


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_render_goes_back_where_its_state_is_from(
    vgg: Vgg, content: Tensor, style: Tensor, optimizer: OptimizerName
) -> None:
    """From the second size to the first, and to one without an optimiser's state."""
    plan = replace(SHALLOW, optimizer=optimizer, pyramid=2)
    render, other = (Render(plan, vgg, content, [Style(style)]) for _ in range(2))
    begin = render.state_dict()
    finished(render), finished(other)
    render.load_state_dict(begin)
    assert render.scale == 0
    assert same(finished(render), other)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("init", ["noise", "content"])
def test_a_look_that_is_given_up_and_made_again_leaves_no_trace(
    vgg: Vgg, small: Tensor, style: Tensor, init: Init, optimizer: OptimizerName
) -> None:
    """As when memory runs out: on the way down, on the way up, or before the targets are there."""
    plan = replace(NOISE, init=init, optimizer=optimizer, iterations=3)
    whole = finished(Render(plan, vgg, small, [Style(style)]))
    render = Render(plan, vgg, small, [Style(style)])

    def check_until(calls: int) -> Callable[[], None]:
        left = iter(range(calls))

        def check() -> None:
            if next(left, None) is None:
                raise Interrupted

        return check

    while not render.is_finished:
        for calls in (0, 2, 4, 5):  # 3 blocks down and 3 up, after 3 for noise's content targets
            with pytest.raises(Interrupted):
                Render.step_together([render], check=check_until(calls))
        render.step()
    assert same(render, whole)


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


def test_a_start_whose_loss_is_not_finite_ends_the_render(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    render = Render(replace(PLAIN, content_weight=1e38, init="noise"), vgg, small, [Style(style)])
    with pytest.raises(Diverged, match="inf in iteration 0"):
        render.step()


def test_a_loss_that_is_not_finite_ends_the_render_with_its_iteration(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    """At the content picture the content loss is 0, whatever its weight; one step on it is not."""
    render = Render(replace(PLAIN, content_weight=1e38, pyramid=1), vgg, small, [Style(style)])
    assert render.step().iteration == 0
    with pytest.raises(Diverged, match="inf in iteration 1"):
        render.step()


def test_a_render_that_diverges_leaves_its_batch_untouched(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    plan = replace(NOISE, iterations=4)
    alone = finished(Render(plan, vgg, small, [Style(style)]))
    healthy = Render(plan, vgg, small, [Style(style)])
    failing = Render(replace(PLAIN, content_weight=1e38, pyramid=1), vgg, small, [Style(style)])
    assert Render.step_together([failing, healthy]) == [None, None]
    diverged, nothing = Render.step_together([failing, healthy])
    assert isinstance(diverged, Diverged)
    assert nothing is None
    assert same(finished(healthy), alone)


BLACK = torch.zeros(32, 32, 3, dtype=torch.uint8)
ORANGE = torch.tensor([255, 128, 0], dtype=torch.uint8).expand(32, 32, 3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("init", ["content", "noise"])
@pytest.mark.parametrize(
    ("content", "style"), [(BLACK, ORANGE), (ORANGE, BLACK), (BLACK, BLACK), (ORANGE, ORANGE)]
)
def test_flat_pictures_are_rendered_like_any(
    vgg: Vgg, content: Tensor, style: Tensor, init: Init, optimizer: OptimizerName
) -> None:
    rates = {"lbfgs": 1.0, "adam": 10.0}
    plan = replace(
        NOISE, iterations=5, init=init, optimizer=optimizer, learning_rate=rates[optimizer]
    )
    render = Render(plan, vgg, content, [Style(style)])
    start = render.step().losses.total
    assert finished(render).progress.losses.total <= start


def test_content_that_is_its_own_style_stays_as_it_is(vgg: Vgg, small: Tensor) -> None:
    render = finished(Render(replace(PLAIN, iterations=4, pyramid=1), vgg, small, [Style(small)]))
    assert torch.equal(render.image(), small.float())
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
    assert torch.equal(render.image(), to_picture(starts[init])())
    assert render.progress.iteration == 0


def test_a_start_that_was_not_given_is_refused(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    with pytest.raises(PlanError, match="no picture to start from"):
        Render(replace(NOISE, init="asset"), vgg, small, [Style(style)])


def test_a_render_without_styles_is_refused(vgg: Vgg, small: Tensor) -> None:
    with pytest.raises(PlanError, match="at least one"):
        Render(NOISE, vgg, small, [])


def test_a_picture_too_small_for_the_layers_is_refused(vgg: Vgg, content: Tensor) -> None:
    with pytest.raises(ShapeError, match="12 x 64 px"):
        Render(DEEP, vgg, content, [Style(content[:, :12])])


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
        (0, 2, 0.0),
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
        Render(DEEP, vgg, small, [Style(style, asset=asset)], cache=cache)
        assert cache.size_bytes == kept * 4 * (64**2 + 128**2 + 256**2 + 2 * 512**2)
    half = style[::2, ::2].contiguous()
    Render(DEEP, vgg, small, [Style(half, asset="stripes")], cache=cache)
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


def checks(height: int, width: int) -> Tensor:
    """Squares of 8 px, uint8 (height, width, 3)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((y // 8 + x // 8) % 2 * 200 + 20).to(torch.uint8).unsqueeze(2).expand(-1, -1, 3)


@pytest.mark.parametrize(
    ("canvas", "pyramid", "iterations", "visited"),
    [
        ((64, 80), 1, 4, [(64, 80)] * 5),
        ((64, 80), 2, 4, [(32, 40)] * 3 + [(64, 80)] * 2),
        ((65, 97), 2, 5, [(32, 48)] * 3 + [(65, 97)] * 3),
        ((128, 136), 3, 6, [(32, 34)] * 2 + [(64, 68)] + [(128, 136)] * 4),
        ((128, 136), 9, 3, [(64, 68)] * 2 + [(128, 136)] * 2),
        ((64, 64), 2, 52, [(32, 32)] * 26 + [(64, 64)] * 27),  # no more than 25 at the coarser
        ((63, 200), 3, 3, [(63, 200)] * 4),  # half of it would be less than 32 px
        ((127, 96), 3, 2, [(64, 48)] * 2 + [(127, 96)]),
        ((64, 80), 2, 1, [(64, 80)] * 2),  # the canvas comes first if there is time for one size
        ((128, 136), 3, 2, [(64, 68)] * 2 + [(128, 136)]),
    ],
)
def test_the_coarser_sizes_share_half_of_the_iterations_and_the_canvas_has_the_rest(
    vgg: Vgg,
    canvas: tuple[int, int],
    pyramid: int,
    iterations: int,
    visited: list[tuple[int, int]],
) -> None:
    """That of the start comes on top."""
    plan = replace(SHALLOW, pyramid=pyramid, iterations=iterations)
    render = Render(plan, vgg, checks(*canvas), [Style(checks(64, 64))])
    found = []
    while not render.is_finished:
        found.append(render.batch_key[:2])
        render.step()
        assert render.image().shape == (*canvas, 3)
        assert render.image().dtype == torch.float32
    assert found == visited
    assert render.iteration == iterations


def test_the_next_size_starts_from_the_last_picture_enlarged(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    render = Render(replace(SHALLOW, pyramid=2), vgg, content, [Style(style)])
    while render.scale == 0:
        render.step()
    picture = render.image()
    render.step()
    assert torch.equal(render.image(), picture)
    render.step()
    assert not torch.equal(render.image(), picture)


def test_a_smaller_size_sees_smaller_pictures(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    """Its first evaluation is that of a render of pictures that were halved before."""
    plan = replace(NOISE, pyramid=2)
    first = Render(plan, vgg, content, [Style(style)]).step()
    halved = [
        to_image(picture).unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
        for picture in (content, style)
    ]
    canvas, painting = halved
    target = style_target(
        vgg, painting, plan.style_layers, pooling=plan.pooling, precision=plan.precision
    )
    objective = Objective(plan, vgg, canvas, [Region([(target, 1.0)])])
    losses, _ = evaluate([objective], noise(32, 32, plan.seed))
    # Halved by another filter, they are not quite the same.
    assert first.losses.content == pytest.approx(losses[0, 1].item(), rel=0.2)
    assert first.losses.style == pytest.approx(losses[0, 2].item(), rel=0.2)


def test_a_painting_is_not_shrunk_until_nothing_is_left_of_it(vgg: Vgg, content: Tensor) -> None:
    """It may be smaller than the canvas: of 20 px it would be 10 px, too few for relu5_1."""
    plan = replace(DEEP, iterations=2, pyramid=2)
    render = finished(Render(plan, vgg, content, [Style(content[20:40])]))
    assert (render.iteration, render.scale) == (2, 1)


FLAT = torch.full((64, 64, 3), 90, dtype=torch.uint8)  # at its content, nothing ever falls


@pytest.mark.parametrize(("patience", "last"), [(0, 10), (1, 1), (3, 3), (10, 10), (99, 10)])
def test_patience_ends_a_render_whose_loss_falls_no_more(
    vgg: Vgg, patience: int, last: int
) -> None:
    plan = replace(SHALLOW, init="content", iterations=10, patience=patience)
    assert finished(Render(plan, vgg, FLAT, [Style(FLAT)])).iteration == last


def test_patience_does_not_end_a_render_before_its_last_size(vgg: Vgg) -> None:
    plan = replace(SHALLOW, init="content", iterations=20, pyramid=2, patience=3)
    render = Render(plan, vgg, FLAT, [Style(FLAT)])
    visited = []
    while not render.is_finished:
        visited.append(render.scale)
        render.step()
    assert visited == [0] * 11 + [1] * 4


def test_patience_lets_a_render_go_on_whose_loss_falls(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    plan = replace(NOISE, patience=1)
    assert finished(Render(plan, vgg, small, [Style(style)])).iteration == 8


def left_half(height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[:, : width // 2] = 255
    return mask


@pytest.mark.parametrize("is_masked", [True, False])
def test_a_style_changes_nothing_far_from_its_mask(
    vgg: Vgg, content: Tensor, style: Tensor, is_masked: bool
) -> None:
    """relu1_1 sees 1 px further, and then relu2_1 what has moved, 5 px around: within two
    iterations no gradient comes as far as the last 12 columns, and Adam moves nothing without.
    """
    plan = replace(
        SHALLOW, init="content", optimizer="adam", learning_rate=5.0, iterations=2, style_weight=1e6
    )
    mask = left_half(64, 64) if is_masked else None
    picture = finished(Render(plan, vgg, content, [Style(style, mask=mask)])).image()
    moved = (picture - content.float()).abs()
    assert moved[:, :24].mean() > 3
    assert bool(moved[:, 52:].any()) is not is_masked


def test_two_halves_come_closer_each_to_its_own_style(vgg: Vgg, content: Tensor) -> None:
    """Colours alone: of the mean, which flat paintings have nothing beside."""
    black = torch.zeros(32, 32, 3, dtype=torch.uint8)
    white = torch.full((32, 32, 3), 255, dtype=torch.uint8)
    left = left_half(64, 64)
    styles = [Style(black, mask=left), Style(white, mask=255 - left)]
    plan = replace(SHALLOW, init="content", iterations=20, style_weight=1e6)
    picture = finished(Render(plan, vgg, content, styles)).image()
    assert picture[:, :28].mean() < content[:, :28].float().mean()
    assert picture[:, 36:].mean() > content[:, 36:].float().mean()


def test_the_paper_around_a_painting_is_no_style(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    """At a size of the pyramid, too: what is opaque shrinks with its painting."""
    opaque = torch.zeros(64, 80, dtype=torch.uint8)
    opaque[:, :40] = 255
    on_white = style.clone()
    on_white[:, 56:] = 255
    plan = replace(SHALLOW, init="content", pyramid=1)
    losses = [
        Render(plan, vgg, small, [Style(picture, opaque=part)]).step().losses.style
        for picture, part in ((style, opaque), (on_white, opaque), (on_white, None))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] != pytest.approx(losses[0], rel=0.05)


def test_eight_bits_written_as_sixteen_give_the_same_picture_to_the_bit(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    plan = replace(SHALLOW, init="content", iterations=3)
    wide = [(picture.to(torch.int32) * 257).to(torch.uint16) for picture in (small, style)]
    narrow, same = (
        finished(Render(plan, vgg, content, [Style(painting)])).image()
        for content, painting in ((small, style), wide)
    )
    assert torch.equal(narrow, same)


def test_sixteen_bits_give_another_picture_than_their_upper_eight(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    plan = replace(SHALLOW, init="content", iterations=3)
    fine = (small.to(torch.int32) * 256 + 200).to(torch.uint16)
    coarse = (fine.to(torch.int32) // 256).to(torch.uint8)
    images = [
        finished(Render(plan, vgg, content, [Style(style)])).image() for content in (fine, coarse)
    ]
    assert not torch.equal(*images)


def test_a_white_mask_is_no_mask(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    white = torch.full((32, 32), 255, dtype=torch.uint8)
    masked, plain = (
        Render(NOISE, vgg, small, [Style(style, mask=mask)]).step() for mask in (white, None)
    )
    assert masked.losses == pytest.approx(plain.losses, rel=1e-5)


@pytest.mark.parametrize("pyramid", [1, 2])
def test_a_mask_follows_the_canvas_through_the_sizes(
    vgg: Vgg, content: Tensor, style: Tensor, pyramid: int
) -> None:
    plan = replace(SHALLOW, iterations=4, pyramid=pyramid)
    styles = [Style(style, mask=left_half(64, 64)), Style(content)]
    render = finished(Render(plan, vgg, content, styles))
    assert math.isfinite(render.progress.losses.total)
    assert render.iteration == 4


@pytest.mark.parametrize(
    "mask", [torch.zeros(32, 32, 3, dtype=torch.uint8), torch.zeros(32, 32)], ids=["rgb", "float"]
)
def test_a_mask_that_is_none_is_refused(
    vgg: Vgg, small: Tensor, style: Tensor, mask: Tensor
) -> None:
    with pytest.raises(ShapeError, match=r"a mask is uint8 \(H, W\)"):
        Render(NOISE, vgg, small, [Style(style, mask=mask)])


def test_a_black_mask_is_refused(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    black = torch.zeros(32, 32, dtype=torch.uint8)
    with pytest.raises(PlanError, match="black everywhere"):
        Render(NOISE, vgg, small, [Style(style, mask=black)])


def test_a_render_in_strips_sees_what_it_sees_whole(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    """Of the style, of the content and of the image."""
    whole, strips = (
        Render(NOISE, vgg, content, [Style(style)], budget_bytes=budget) for budget in (None, 1)
    )
    assert strips.step().losses == pytest.approx(whole.step().losses, rel=1e-5)
    # The first move follows the gradient, smoothed and scaled.
    whole.step(), strips.step()
    torch.testing.assert_close(strips.image(), whole.image(), rtol=0, atol=0.02)


def test_a_render_gives_back_what_its_passes_took(vgg: Vgg, small: Tensor, style: Tensor) -> None:
    render = Render(NOISE, Vgg(vgg.weights), small, [Style(style)])
    render.step()
    assert render._vgg.arena.size_bytes >= render.pass_bytes
    render.release()
    assert render._vgg.arena.size_bytes == 0
    assert math.isfinite(render.step().losses.total)


def test_a_painting_leaves_what_others_step_in_where_it_is(
    vgg: Vgg, content: Tensor, small: Tensor, style: Tensor
) -> None:
    """Unless it needs more: they would have to fetch new memory, and a GPU to record anew."""
    shared = Vgg(vgg.weights)
    Render(NOISE, shared, content, [Style(style)]).step()
    held = dict(shared.arena._buffers)
    generation = shared.arena.generation
    Render(NOISE, shared, small, [Style(content)])
    assert {key: id(buffer) for key, buffer in shared.arena._buffers.items()} == {
        key: id(buffer) for key, buffer in held.items()
    }
    assert shared.arena.generation == generation
    Render(NOISE, shared, small, [Style(content.repeat(2, 2, 1))])
    assert 0 < shared.arena.size_bytes < sum(buffer.nbytes for buffer in held.values())
    assert shared.arena.generation > generation


def test_what_the_state_will_still_take_is_not_spare(vgg: Vgg, small: Tensor) -> None:
    render = Render(NOISE, vgg, small, [Style(small)])
    render.step()
    at_first = render.spare_bytes
    finished(render)
    state = render.state_dict()
    remembered = state["optimizer.s"].nbytes + state["optimizer.y"].nbytes
    assert render.spare_bytes == at_first + remembered > at_first


def test_a_coarser_size_keeps_the_balance_of_content_and_style(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    """Of a quarter of the positions, content is a quarter; the last size is as the report says."""
    plan = replace(SHALLOW, pyramid=2, tv_weight=3.0)
    render = Render(plan, vgg, content, [Style(style)])
    weights = []
    while not render.is_finished:
        scale = render.scale
        found = render.step().losses
        others = plan.content_weight * found.content + plan.tv_weight * found.tv
        weights.append((scale, (found.total - others) / found.style))
    coarse = [weight for scale, weight in weights if scale == 0]
    fine = [weight for scale, weight in weights if scale == 1]
    assert coarse == pytest.approx([plan.style_weight / 4] * len(coarse), rel=1e-3)
    assert fine == pytest.approx([plan.style_weight] * len(fine), rel=1e-3)
    assert coarse
    assert fine


@pytest.fixture(scope="module")
def done(vgg: Vgg) -> tuple[Tensor, Tensor, Tensor]:
    """A content, a style, and what L-BFGS made of them with `NEAR`."""
    content, style = checks(64, 64), checks(64, 80).flip(0).roll(3, 1)
    plan = replace(NOISE, init="content", iterations=25)
    image = finished(Render(plan, vgg, content, [Style(style)])).image()
    return content, style, image.round().to(torch.uint8)


NEAR = replace(NOISE, init="asset")
RATES = {"lbfgs": 1.0, "adam": 10.0}


def near(vgg: Vgg, done: tuple[Tensor, Tensor, Tensor], **fields: Any) -> Render:
    """A render that starts near its minimum."""
    content, style, init = done
    rate = RATES[fields.get("optimizer", "lbfgs")]
    plan = replace(NEAR, **{"learning_rate": rate} | fields)
    return Render(plan, vgg, content, [Style(style)], init=init)


@pytest.mark.parametrize("pyramid", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_picture_is_the_best_that_was_evaluated_at_its_size(
    vgg: Vgg, done: tuple[Tensor, Tensor, Tensor], optimizer: OptimizerName, pyramid: int
) -> None:
    """Whatever iteration it is taken at; with its losses, and those of what was tried beside."""
    content, style, _ = done
    render = near(vgg, done, optimizer=optimizer, pyramid=pyramid)
    target = style_target(
        vgg, to_image(style), NEAR.style_layers, pooling=NEAR.pooling, precision=NEAR.precision
    )
    objective = Objective(NEAR, vgg, to_image(content), [Region([(target, 1.0)])])
    tried: dict[int, list[float]] = {1: [], 2: []}
    while not render.is_finished:
        level = render.scale + 1
        progress = render.step()
        tried[level].append(progress.evaluated.total)
        assert progress.level.number == level
        assert progress.losses.total == min(tried[level])
        if level == pyramid:
            seen = render.image().permute(2, 0, 1).unsqueeze(0).contiguous()
            losses, _ = evaluate([objective], seen)
            assert progress.losses.total == pytest.approx(losses[0, 0].item(), rel=1e-5)
    assert any(after > before for before, after in pairwise(tried[pyramid]))
    assert tried[pyramid][progress.best - progress.iteration - 1] == progress.losses.total


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_finished_picture_becomes_better_still(
    vgg: Vgg, done: tuple[Tensor, Tensor, Tensor], optimizer: OptimizerName
) -> None:
    """Its first step raises the loss; what follows it is taken from the start, and shorter."""
    render = near(vgg, done, optimizer=optimizer, iterations=12)
    start = render.step().losses.total
    assert render.step().evaluated.total > 2 * start
    assert finished(render).progress.losses.total < 0.99 * start


@pytest.mark.parametrize("pyramid", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("before", [1, 2, 3, 5, 6, 7])
def test_a_render_whose_steps_were_taken_back_is_restored_to_the_bit(
    vgg: Vgg,
    done: tuple[Tensor, Tensor, Tensor],
    optimizer: OptimizerName,
    before: int,
    pyramid: int,
) -> None:
    """Its best picture, the length of its next step, and at the second size its start."""
    assert_restored_goes_on(lambda: near(vgg, done, optimizer=optimizer, pyramid=pyramid), before)


def test_steps_are_taken_back_the_same_in_any_batch(
    vgg: Vgg, done: tuple[Tensor, Tensor, Tensor], style: Tensor
) -> None:
    content, *_ = done

    def make() -> list[Render]:
        renders = [near(vgg, done, optimizer=optimizer) for optimizer in OPTIMIZERS]
        return [*renders, Render(NOISE, vgg, content, [Style(style)])]

    alone, together = [finished(render) for render in make()], make()
    while not together[0].is_finished:
        assert Render.step_together(together) == [None] * 3
    assert all(map(same, together, alone))


def test_a_start_that_loses_its_details_at_a_coarser_size_is_gone_back_to(vgg: Vgg) -> None:
    """Of lines of one pixel nothing is left at half the size; at its own the start is perfect."""
    lines = torch.zeros(64, 64, 3, dtype=torch.uint8)
    lines[:, ::2] = 255
    plan = replace(NOISE, init="content", pyramid=2)
    render = finished(Render(plan, vgg, lines, [Style(lines)]))
    assert render.scale == 1
    assert torch.equal(render.image(), lines.float())
    assert render.progress.losses.total == pytest.approx(0, abs=1e-2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_that_was_learnt_at_another_size_is_carried_on(
    vgg: Vgg, content: Tensor, style: Tensor, optimizer: OptimizerName
) -> None:
    plan = replace(NOISE, optimizer=optimizer, learning_rate=RATES[optimizer], pyramid=2)
    render = Render(plan, vgg, content, [Style(style)])
    while render.scale == 0:
        render.step()
    assert (
        render.state_dict().keys() == Render(plan, vgg, content, [Style(style)]).state_dict().keys()
    )
    image = render.image()
    render.step()
    fresh = Render(replace(plan, pyramid=1), vgg, content, [Style(style)])
    fresh._descent.image = image.permute(2, 0, 1).unsqueeze(0).contiguous()
    fresh.step()
    render.step(), fresh.step()
    assert torch.equal(render.image(), fresh.image())


def test_with_normalised_gradients_the_picture_is_the_last(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    """They are not those of the total, which rises here: a step that raised it is no fault."""
    plan = replace(NOISE, init="content", normalize_gradients=True, style_weight=0.3)
    render = Render(plan, vgg, small, [Style(style)])
    found = [render.step()]
    while not render.is_finished:
        found.append(render.step())
        assert found[-1].losses == found[-1].evaluated
        assert found[-1].best == found[-1].iteration
    assert found[-1].losses.total > found[0].losses.total
