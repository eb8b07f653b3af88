"""A real GPU: that it computes what the CPU does, and that replayed steps are the steps."""

import gc
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from impasto.workers.engine.device.graphs import WARM, Graphs
from impasto.workers.engine.errors import Diverged
from impasto.workers.engine.layers import Pooling, Precision
from impasto.workers.engine.loop import Loop
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.objective import evaluate
from impasto.workers.engine.optim.adam import Adam
from impasto.workers.engine.optim.lbfgs import Lbfgs
from impasto.workers.engine.optim.optimizers import Evaluation, Optimizer
from impasto.workers.engine.optim.preconditioner import smooth
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

# A GPU that torch cannot use is a fault to be seen, and no reason to skip.
HAS_GPU = torch.cuda.is_available() or Path("/dev/nvidiactl").exists()
pytestmark = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")

PLAN = replace(PLAIN, iterations=12, init="noise", pyramid=1, precision="bfloat16")
COMPANIES = {
    "one": [PLAN],
    "three": [PLAN, replace(PLAN, seed=1), replace(PLAN, seed=2)],
    "other optimisers": [PLAN, replace(PLAN, optimizer="adam", learning_rate=10.0)],
    "other layers": [PLAN, replace(PLAN, style_layers={"relu1_1": 1.0, "relu3_2": 0.5})],
    "normalised": [replace(PLAN, normalize_gradients=True, tv_weight=1e-3)] * 2,
    "smoothed": [replace(PLAN, tv_weight=1.0)],
    "max": [replace(PLAN, pooling="max")],
    "float32": [replace(PLAN, precision="float32"), replace(PLAN, precision="float32", seed=1)],
    "deep": [replace(PLAN, content_layers={"relu5_4": 1.0})],
}


@pytest.fixture(scope="module")
def gpu(vgg: Vgg) -> Vgg:
    return Vgg(vgg.weights, "cuda")


@pytest.fixture
def odd(content: Tensor) -> Tensor:
    """With an odd row or column before some pools."""
    return content[:59, :63]


def error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.cpu().double(), expected.cpu().double()
    return float((found - expected).norm() / expected.norm())


def renders_of(vgg: Vgg, plans: list[Plan], content: Tensor, style: Tensor) -> list[Render]:
    return [Render(plan, vgg, content, [Style(style, asset="stripes")]) for plan in plans]


def stepped(renders: list[Render], times: int) -> list[Tensor]:
    for _ in range(times):
        assert Render.step_together(renders) == [None] * len(renders)
    return [render.image() for render in renders]


@pytest.fixture
def unrecorded() -> Iterator[None]:
    with mock.patch.object(Graphs, "run", lambda self, step, _: self.run_eagerly(step)):
        yield


@pytest.mark.parametrize(
    ("precision", "pooling", "off"),
    [
        ("float32", "avg", 1e-4),
        ("float32", "max", 5e-3),  # of two that are almost equal another may be the largest
        ("bfloat16", "avg", 5e-2),
        ("bfloat16", "max", 0.2),
    ],
)
def test_a_look_is_that_of_the_cpu(
    gpu: Vgg, odd: Tensor, style: Tensor, *, precision: Precision, pooling: Pooling, off: float
) -> None:
    plan = replace(PLAN, init="content", tv_weight=1.0, pooling=pooling, precision=precision)
    seen = []
    for vgg in (Vgg(gpu.weights), gpu):
        (render,) = renders_of(vgg, [plan], odd, style)
        image = (render._descent.image + torch.linspace(-9, 9, 63, device=vgg.device)).clamp(0, 255)
        render.step()  # the targets
        seen.append(list(evaluate([render._descent.objective], image)))
    (losses, gradient), (found_losses, found_gradient) = seen
    assert error(found_losses, losses) < off
    assert error(found_gradient, gradient) < off


@pytest.mark.parametrize("size", [(64, 50), (33, 7), (5, 4)])
def test_octaves_are_those_of_the_cpu(size: tuple[int, int]) -> None:
    images = torch.randn((2, 3, *size), generator=torch.manual_seed(1))
    on_gpu = images.cuda()
    smooth(images, 4)
    smooth(on_gpu, 4)
    torch.testing.assert_close(on_gpu.cpu(), images)


@pytest.mark.parametrize("make", [Lbfgs, Adam])
def test_images_move_as_on_the_cpu(make: type[Optimizer]) -> None:
    bowl = torch.linspace(1, 9, 3 * 16 * 16).view(1, 3, 16, 16)
    ends = []
    for device in ("cpu", "cuda"):
        one, last = make(), None
        image, depth = torch.full((1, 3, 16, 16), 90.0, device=device), bowl.to(device)
        for _ in range(30):
            here = Evaluation(image, depth * (image - 20))
            make.update([one], [last], here)
            image, last = make.step([one], here), here
        ends.append(image.cpu())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-2, atol=0.1)


@pytest.mark.parametrize("plans", COMPANIES.values(), ids=COMPANIES)
def test_replayed_steps_are_the_steps(
    gpu: Vgg, content: Tensor, style: Tensor, plans: list[Plan], request: pytest.FixtureRequest
) -> None:
    recorded = renders_of(gpu, plans, content, style)
    found = stepped(recorded, 9)
    assert any(one.recorded for one in gpu.graphs._known.values())
    request.getfixturevalue("unrecorded")
    by_hand = renders_of(gpu, plans, content, style)
    expected = stepped(by_hand, 9)
    for one, other, image, wanted in zip(recorded, by_hand, found, expected, strict=True):
        if plans[0].precision == "float32":
            assert torch.equal(image, wanted)
        assert one.progress.iteration == 8
        assert one.progress.losses.total == pytest.approx(other.progress.losses.total, rel=2e-2)
        assert (image - wanted).abs().mean() < 1.0


def test_a_picture_in_float32_is_the_same_in_any_batch_to_the_bit(
    gpu: Vgg, content: Tensor, style: Tensor
) -> None:
    plans = [replace(PLAN, precision="float32", seed=seed) for seed in range(4)]
    together = stepped(renders_of(gpu, plans, content, style), 13)
    for plan, image in zip(plans, together, strict=True):
        (alone,) = stepped(renders_of(gpu, [plan], content, style), 13)
        assert torch.equal(alone, image)


def test_renders_come_and_go(vgg: Vgg, gpu: Vgg, content: Tensor, style: Tensor) -> None:
    """Companies of two sizes take turns, and change while their steps are replayed."""
    pictures = (content, content[:48, :32], content, content[:48, :32])
    plans = [replace(PLAN, iterations=n, init="content", pyramid=2) for n in (10, 30, 20, 25)]
    ends = []
    for one in (vgg, gpu):
        with Loop() as loop, ExitStack() as stack:
            runs = []
            for plan, picture in zip(plans, pictures, strict=True):
                build = partial(renders_of, one, [plan], picture, style)
                runs.append(stack.enter_context(loop.admit(lambda build=build: build()[0], 5)))
            events = [list(run) for run in runs]
        for plan, its in zip(plans, events, strict=True):
            assert [e.progress.iteration for e in its] == list(range(plan.iterations + 1))
        ends.append([its[-1].progress.losses.total for its in events])
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def test_a_step_is_recorded_anew_when_its_memory_was_given_back(
    gpu: Vgg, content: Tensor, style: Tensor
) -> None:
    renders = renders_of(gpu, [replace(PLAN, precision="float32")], content, style)
    expected = stepped(renders, 12)
    renders = renders_of(gpu, [replace(PLAN, precision="float32")], content, style)
    for times in (WARM + 2, 3, 12 - WARM - 5):
        found = stepped(renders, times)
        gpu.arena.clear()
    assert torch.equal(found[0], expected[0])


def test_a_render_that_diverges_leaves_its_batch_untouched(
    gpu: Vgg, content: Tensor, style: Tensor
) -> None:
    good, bad = renders_of(gpu, [PLAN, PLAN], content, style)
    stepped([good, bad], 5)
    assert bad._descent.last
    bad._descent.last.images.fill_(math.nan)
    errors = Render.step_together([good, bad])
    assert errors[0] is None
    assert isinstance(errors[1], Diverged)
    stepped([good], 3)


def test_a_restored_render_goes_on(gpu: Vgg, content: Tensor, style: Tensor) -> None:
    plan = replace(PLAN, precision="float32")
    (first,) = renders_of(gpu, [plan], content, style)
    stepped([first], 6)
    state = first.state_dict()
    (expected,) = stepped([first], 4)
    (second,) = renders_of(gpu, [plan], content, style)
    for render in (first, second):  # one whose steps are recorded, and a new one
        render.load_state_dict(state)
        (found,) = stepped([render], 4)
        assert torch.equal(found, expected)


def test_what_was_recorded_is_given_back_with_its_renders(
    gpu: Vgg, content: Tensor, style: Tensor
) -> None:
    renders = renders_of(gpu, [PLAN], content, style)
    stepped(renders, 5)
    known = len(gpu.graphs._known)
    held = torch.cuda.memory_allocated()
    del renders
    gc.collect()
    assert len(gpu.graphs._known) < known
    assert torch.cuda.memory_allocated() < held


def test_without_memory_for_all_a_render_is_passed_in_strips(
    gpu: Vgg, content: Tensor, style: Tensor
) -> None:
    big = content.repeat(16, 16, 1)  # 1024 px: two of them remember 1.1 GB, and a pass takes 0.8
    gpu.graphs.clear()
    gpu.arena.clear()
    torch.cuda.empty_cache()
    used, total = torch.cuda.memory_allocated(), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((used + 1700 * 2**20) / total)
    plan = replace(PLAN, init="content", iterations=6)
    build = lambda: renders_of(gpu, [plan], big, style)[0]  # noqa: E731
    try:
        with Loop(2**40) as loop, loop.admit(build) as one, loop.admit(build) as other:
            for run in (one, other):
                *_, last = run
                assert last.progress.iteration == 6
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
