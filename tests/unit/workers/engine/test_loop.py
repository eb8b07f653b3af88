import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workers.engine.errors import Diverged, LoopClosed, RunOver, ShapeError
from workers.engine.loop import Event, Loop, Run
from workers.engine.plan import Plan
from workers.engine.render import Render, Style
from workers.engine.vgg import Vgg

PLAN = Plan(iterations=6, init="noise")
ENDLESS = replace(PLAN, iterations=1_000_000)
DIVERGING = Plan(content_weight=1e38)  # from the content picture on, in iteration 1

Make = Callable[[Plan], Render]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def make(vgg: Vgg, small: Tensor, style: Tensor) -> Make:
    def make(plan: Plan) -> Render:
        return Render(plan, vgg, small, [Style(style)])

    return make


def last(run: Run) -> Event:
    *_, event = run
    return event


def test_a_run_tells_of_its_start_and_of_each_iteration_in_order(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(PLAN)) as run:
        events = list(run)
    assert [event.progress.iteration for event in events] == [0, 1, 2, 3, 4, 5, 6]
    assert run.is_over
    assert run.events() == []


@pytest.mark.parametrize(
    ("capture_every", "captured"), [(0, [6]), (2, [2, 4, 6]), (4, [4, 6]), (1, [1, 2, 3, 4, 5, 6])]
)
def test_pictures_come_as_often_as_asked_and_at_the_end(
    loop: Loop, make: Make, capture_every: int, captured: list[int]
) -> None:
    with loop.admit(lambda: make(PLAN), capture_every) as run:
        events = list(run)
    assert [e.progress.iteration for e in events if e.image is not None] == captured
    assert all(e.image.shape == (32, 32, 3) for e in events if e.image is not None)


def test_renders_in_company_are_the_same_to_the_bit_as_alone(loop: Loop, make: Make) -> None:
    plans = [replace(PLAN, seed=1), replace(PLAN, seed=2, optimizer="adam", learning_rate=10.0)]
    alone = []
    for plan in plans:
        with loop.admit(lambda plan=plan: make(plan)) as run:
            alone.append(last(run))
    with loop.admit(lambda: make(plans[0])) as one, loop.admit(lambda: make(plans[1])) as other:
        together = [last(one), last(other)]
    for before, after in zip(alone, together, strict=True):
        assert torch.equal(before.image, after.image)
        assert before.progress.losses == after.progress.losses


def test_renders_take_turns(loop: Loop, vgg: Vgg, small: Tensor, style: Tensor) -> None:
    """Each reads its clock when it begins and ends its building, and each iteration."""
    order: list[str] = []
    all_are_in = threading.Event()

    def noting(name: str) -> Callable[[], Render]:
        def clock() -> float:
            order.append(name)
            return 0.0

        return lambda: Render(PLAN, vgg, small, [Style(style)], clock=clock)

    def hold_the_loop() -> Render:
        all_are_in.wait()
        raise ShapeError("of no further use")

    with (
        loop.admit(hold_the_loop),
        loop.admit(noting("a")) as one,
        loop.admit(noting("b")) as other,
    ):
        all_are_in.set()
        last(one), last(other)
    assert order == ["a", "a", "b", "b"] * (1 + PLAN.iterations)


def test_a_render_that_is_left_makes_room_at_once(loop: Loop, make: Make) -> None:
    built: list[weakref.ref[Render]] = []

    def build() -> Render:
        render = make(ENDLESS)
        built.append(weakref.ref(render))
        return render

    with loop.admit(build) as run:
        run.events()
    with loop.admit(lambda: make(PLAN)) as other:  # its turns come after the other was dropped
        last(other)
    gc.collect()
    assert built[0]() is None


def test_a_render_that_fails_tells_its_own_thread_and_no_other(loop: Loop, make: Make) -> None:
    with (
        loop.admit(lambda: make(PLAN)) as healthy,
        loop.admit(lambda: make(DIVERGING)) as failing,
    ):
        events = iter(failing)
        assert next(events).progress.iteration == 0
        with pytest.raises(Diverged, match="iteration 1"):
            next(events)
        assert failing.is_over
        assert last(healthy).progress.iteration == 6


def test_what_happened_before_a_failure_is_told_before_it(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(DIVERGING)) as failing:
        with loop.admit(lambda: make(PLAN)) as other:  # its last turn comes after the failure
            last(other)
        assert [event.progress.iteration for event in failing.events()] == [0]
        with pytest.raises(Diverged):
            failing.events()


def test_a_render_that_cannot_be_built_tells_why(loop: Loop, vgg: Vgg, content: Tensor) -> None:
    with (
        loop.admit(lambda: Render(PLAN, vgg, content[:8], [Style(content)])) as run,
        pytest.raises(ShapeError, match="64 x 8 px"),
    ):
        list(run)


def test_nothing_happened_is_an_empty_list_in_time(loop: Loop, make: Make) -> None:
    may_build = threading.Event()

    def build() -> Render:
        may_build.wait()
        return make(PLAN)

    with loop.admit(build) as run:
        assert run.events(timeout=0.01) == []
        assert not run.is_over
        may_build.set()
        assert run.events()[0].progress.iteration == 0


def test_a_slow_reader_holds_up_nobody_and_misses_nothing(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(PLAN)) as slow:
        with loop.admit(lambda: make(replace(PLAN, iterations=12))) as other:
            last(other)
        assert [event.progress.iteration for event in slow.events()] == [0, 1, 2, 3, 4, 5, 6]


def test_a_state_taken_on_the_way_leads_to_the_same_picture(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(PLAN)) as run:
        state = run.state()
        whole = last(run)

    def resume() -> Render:
        render = make(PLAN)
        render.load_state_dict(state)
        return render

    with loop.admit(resume) as run:
        events = list(run)
    assert events[0].progress.iteration == int(state["iteration"])
    assert torch.equal(events[-1].image, whole.image)


def test_a_render_restored_after_its_last_iteration_still_has_its_picture(
    loop: Loop, make: Make
) -> None:
    done = make(PLAN)
    while not done.is_finished:
        done.step()

    def resume() -> Render:
        render = make(PLAN)
        render.load_state_dict(done.state_dict())
        return render

    with loop.admit(resume) as run:
        (event,) = run
    assert event.progress.iteration == 6
    assert torch.equal(event.image, done.image())


def test_a_render_that_is_over_has_no_state(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(PLAN)) as run:
        last(run)
        with pytest.raises(RunOver):
            run.state()


def test_whoever_waits_for_a_state_hears_that_the_render_failed(loop: Loop, make: Make) -> None:
    may_build = threading.Event()

    def build() -> Render:
        may_build.wait()
        raise ShapeError("crooked")

    with loop.admit(build) as run:
        threading.Timer(0.05, may_build.set).start()
        with pytest.raises(ShapeError, match="crooked"):
            run.state()


def test_a_closed_loop_says_so_to_those_inside_and_those_outside(make: Make) -> None:
    loop = Loop()
    with loop.admit(lambda: make(ENDLESS)) as run:
        run.events()
        loop.close()
        with pytest.raises(LoopClosed, match="before the render's last iteration"):
            list(run)
    with pytest.raises(LoopClosed, match="the loop is closed"), loop.admit(lambda: make(PLAN)):
        pass
    assert "engine-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_loop_can_be_closed_twice() -> None:
    loop = Loop()
    loop.close()
    loop.close()
