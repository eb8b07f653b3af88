import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.workers.engine import loop as loops
from impasto.workers.engine.device.arena import Arena
from impasto.workers.engine.errors import Diverged, LoopClosed, OutOfMemory, RunOver, ShapeError
from impasto.workers.engine.loop import SWITCH_SECONDS, Event, Loop, Run
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.balance import Factors
from impasto.workers.engine.objective.objective import Losses
from impasto.workers.engine.plan import PLAIN, Init, Plan
from impasto.workers.engine.render.pyramid import Level, Style
from impasto.workers.engine.render.render import Progress, Render

PLAN = replace(
    PLAIN,
    iterations=6,
    init="noise",
    content_layers={"relu3_2": 1.0},
    style_layers={"relu1_1": 0.5, "relu3_1": 0.5},
    pyramid=1,
)
ADAM = replace(PLAN, optimizer="adam", learning_rate=10.0)
ENDLESS = replace(PLAN, iterations=1_000_000)
DIVERGING = replace(
    PLAN, init="content", content_weight=1e38
)  # from the content picture on, in iteration 1

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
    ("snapshot_every", "captured"), [(0, [6]), (2, [2, 4, 6]), (4, [4, 6]), (1, [1, 2, 3, 4, 5, 6])]
)
def test_pictures_come_as_often_as_asked_and_at_the_end(
    loop: Loop, make: Make, snapshot_every: int, captured: list[int]
) -> None:
    with loop.admit(lambda: make(PLAN), snapshot_every) as run:
        events = list(run)
    assert [e.progress.iteration for e in events if e.image is not None] == captured
    assert all(e.image.shape == (32, 32, 3) for e in events if e.image is not None)


DEEPER = replace(ADAM, style_layers={"relu2_1": 1.0, "relu4_1": 2.0}, style_weight=1e4, seed=2)


@pytest.mark.parametrize("is_alone", [False, True])
def test_renders_that_join_at_any_moment_end_with_the_bits_they_have_alone(
    loop: Loop, make: Make, is_alone: bool
) -> None:
    """Of one size; of other layers, weights and optimisers."""
    plans = [replace(PLAN, iterations=12), DEEPER, replace(PLAN, init="content", tv_weight=1.0)]
    alone = []
    for plan in plans:
        with loop.admit(lambda plan=plan: make(plan)) as run:
            alone.append(last(run))
    with (
        loop.admit(lambda: make(plans[0])) as first,
        take(first, 2),
        loop.admit(lambda: make(plans[1]), is_alone=is_alone) as second,
        take(second, 1),
        loop.admit(lambda: make(plans[2])) as third,
    ):
        together = [last(first), last(second), last(third)]
    for before, after in zip(alone, together, strict=True):
        assert torch.equal(before.image, after.image)
        assert before.progress.losses == after.progress.losses


@contextmanager
def take(run: Run, count: int) -> Iterator[None]:
    """Waits for so many events; the run goes on."""
    while count > 0:
        count -= len(run.events())
    yield


class Clock:
    """Read when a pass begins and when it ends, by the first of its renders."""

    def __init__(self, name: str, seconds: float, passes: list[str]) -> None:
        self._name = name
        self._seconds = seconds
        self._passes = passes
        self._now = 0.0
        self._is_running = False

    def __call__(self) -> float:
        if self._is_running:
            self._now += self._seconds
            self._passes.append(self._name)
        self._is_running = not self._is_running
        return self._now


@pytest.fixture
def timed(vgg: Vgg, content: Tensor, style: Tensor) -> Callable[..., Callable[[], Render]]:
    def timed(width: int, clock: Callable[[], float]) -> Callable[[], Render]:
        return lambda: Render(PLAN, vgg, content[:32, :width], [Style(style)], clock=clock)

    return timed


@contextmanager
def held(loop: Loop) -> Iterator[None]:
    """The loop takes its first turn when all are in."""
    is_held, all_are_in = threading.Event(), threading.Event()

    def hold() -> Render:
        is_held.set()
        all_are_in.wait()
        raise ShapeError("of no further use")

    with loop.admit(hold):
        is_held.wait()  # else its turn may be that of some who are in, but not of all
        try:
            yield
        finally:
            all_are_in.set()


Timed = Callable[..., Callable[[], Render]]


def test_renders_of_one_size_share_their_passes(loop: Loop, timed: Timed) -> None:
    passes: list[str] = []
    with ExitStack() as stack:
        with held(loop):
            one, other = (
                stack.enter_context(loop.admit(timed(32, Clock(name, 1, passes)))) for name in "ab"
            )
        ends = [last(one), last(other)]
    assert passes == ["a"] * 7
    assert [end.progress.seconds for end in ends] == [1, 1]


def test_a_render_alone_shares_no_pass(loop: Loop, timed: Timed) -> None:
    passes: list[str] = []
    with ExitStack() as stack:
        with held(loop):
            runs = [
                stack.enter_context(
                    loop.admit(timed(32, Clock(name, 1, passes)), is_alone=name == "c")
                )
                for name in "abc"
            ]
        for run in runs:
            last(run)
    # Half a second of each shared pass is the time of either: two of them are as fair as one.
    assert set(passes) == {"a", "c"}
    assert passes.count("a") == passes.count("c") == 7
    assert passes[:6] == ["a", "c", "a", "a", "c", "a"]


def test_renders_of_different_sizes_have_equal_time(loop: Loop, timed: Timed) -> None:
    """One whose passes take three times as long has a turn for three of the other's."""
    passes: list[str] = []
    with ExitStack() as stack:
        with held(loop):
            slow = stack.enter_context(loop.admit(timed(48, Clock("s", 3, passes))))
            fast = stack.enter_context(loop.admit(timed(32, Clock("f", 1, passes))))
        last(slow), last(fast)
    assert "".join(passes) == "sfffsfffsfssss"


def test_a_newcomer_has_no_claim_to_the_time_before_it_came(loop: Loop, timed: Timed) -> None:
    passes: list[str] = []
    third_ends, may_end = threading.Event(), threading.Event()
    clock = Clock("a", 1, passes)

    def waiting() -> float:
        now = clock()
        if len(passes) == 3 and not may_end.is_set():
            third_ends.set()
            may_end.wait()
        return now

    with loop.admit(timed(48, waiting)) as first:
        third_ends.wait()
        with loop.admit(timed(32, Clock("b", 1, passes))) as second:
            may_end.set()
            last(first), last(second)
    assert "".join(passes) == "aaab" + 4 * "ab" + "bb"


def test_renders_that_do_not_fit_together_take_turns(make: Make, timed: Timed) -> None:
    passes: list[str] = []
    with Loop(budget_bytes=2 * make(PLAN).pass_bytes) as loop, ExitStack() as stack:
        with held(loop):
            runs = [
                stack.enter_context(loop.admit(timed(32, Clock(name, 1, passes)))) for name in "abc"
            ]
        assert [last(run).progress.iteration for run in runs] == [6, 6, 6]
    # ab, ca, bc: each has two turns in three.
    assert "".join(passes[:6]) == "acbacb"


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
        end = last(healthy)
    with loop.admit(lambda: make(PLAN)) as alone:
        assert torch.equal(end.image, last(alone).image)


def test_what_happened_before_a_failure_is_reported_before_it(loop: Loop, make: Make) -> None:
    with loop.admit(lambda: make(DIVERGING)) as failing:
        with loop.admit(lambda: make(PLAN)) as other:  # its last turn comes after the failure
            last(other)
        assert [event.progress.iteration for event in failing.events()] == [0]
        with pytest.raises(Diverged):
            failing.events()


def test_a_render_that_cannot_be_built_tells_why(loop: Loop, vgg: Vgg, content: Tensor) -> None:
    with (
        loop.admit(lambda: Render(PLAN, vgg, content[:3], [Style(content)])) as run,
        pytest.raises(ShapeError, match="64 x 3 px"),
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
        run.events()
        state = run.state().result()
        whole = last(run)

    def resume() -> Render:
        render = make(PLAN)
        render.load_state_dict(state)
        return render

    with loop.admit(resume) as run:
        events = list(run)
    assert events[0].progress.iteration == int(state["iteration"]) + 1
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
            run.state().result()


def test_whoever_waits_for_a_state_hears_that_the_render_failed(loop: Loop, make: Make) -> None:
    may_build = threading.Event()

    def build() -> Render:
        may_build.wait()
        raise ShapeError("crooked")

    with loop.admit(build) as run:
        threading.Timer(0.05, may_build.set).start()
        with pytest.raises(ShapeError, match="crooked"):
            run.state().result()


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


class Watched(Arena):
    """Notes what passes take, and the most of it at a time; `on_take` is called before."""

    def __init__(self, on_take: Callable[[str], None] = lambda _: None) -> None:
        super().__init__()
        self.taken: list[str] = []
        self.most_bytes = 0
        self._on_take = on_take

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        self._on_take(name)
        self.taken.append(name)
        found = super().take(name, shape, dtype)
        self.most_bytes = max(self.most_bytes, self.size_bytes)
        return found

    @property
    def has_seen_strips(self) -> bool:
        return any(name.startswith("strip") for name in self.taken)


class Tight(Watched):
    """Has so much memory and no more."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.refusals = 0

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        wanted = torch.Size(shape).numel() * dtype.itemsize
        held = self._buffers.get((name, dtype))
        if held is None or held.nbytes < wanted:
            others = self.size_bytes - (0 if held is None else held.nbytes)
            if others + wanted > self.limit_bytes:
                self.refusals += 1
                raise torch.OutOfMemoryError(f"no {wanted} bytes are left for {name}")
        return super().take(name, shape, dtype)


def network(vgg: Vgg, arena: Arena) -> Vgg:
    """The same, with another arena; before its first pass, in which convolutions take it."""
    other = Vgg(vgg.weights)
    other.arena = arena
    return other


def needed(vgg: Vgg, make: Callable[[Vgg], list[Render]], budget_bytes: int | None = None) -> int:
    """What the passes of renders together take, beside their making."""
    other = network(vgg, Arena())
    renders = make(other)
    other.arena.clear()
    Render.step_together(renders, budget_bytes=budget_bytes)
    return other.arena.size_bytes


def test_a_loop_does_not_wait_long_for_the_interpreter() -> None:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        with Loop():
            assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        sys.setswitchinterval(1e-5)
        with Loop():
            assert sys.getswitchinterval() == pytest.approx(1e-5)
    finally:
        sys.setswitchinterval(usual)


def test_a_render_that_is_left_ends_before_its_next_strip(
    loop: Loop, vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    is_in_second_block, has_left = threading.Event(), threading.Event()

    def on_take(name: str) -> None:
        if name == "relu2_1" and is_looking.is_set():
            is_in_second_block.set()
            has_left.wait()

    is_looking = threading.Event()
    arena = Watched(on_take)

    def build() -> Render:
        render = Render(replace(PLAN, init="content"), network(vgg, arena), small, [Style(style)])
        is_looking.set()
        arena.taken.clear()
        return render

    with loop.admit(build) as run:
        is_in_second_block.wait()
        run.leave()
        has_left.set()
        with pytest.raises(RunOver, match="left before its last iteration"):
            run.events()
    assert "relu2_2" in arena.taken
    assert "relu3_1" not in arena.taken


def test_a_pass_goes_on_while_somebody_waits_for_it(
    loop: Loop, vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    is_built, may_go_on = threading.Event(), threading.Event()

    def on_take(name: str) -> None:
        if name == "relu2_1" and is_built.is_set():
            may_go_on.wait()

    arena = Watched(on_take)
    shared = network(vgg, arena)

    def build() -> Render:
        return Render(replace(PLAN, init="content"), shared, small, [Style(style)])

    def build_second() -> Render:
        render = build()
        arena.taken.clear()
        is_built.set()
        return render

    with ExitStack() as stack:
        with held(loop):
            stays = stack.enter_context(loop.admit(build))
            leaves = stack.enter_context(loop.admit(build_second))
        is_built.wait()
        leaves.leave()
        may_go_on.set()
        assert last(stays).progress.iteration == 6
    assert arena.taken.count("stem padded") == 7  # nothing was evaluated twice


@pytest.mark.parametrize("init", ["noise", "content"])
def test_without_memory_for_all_each_is_stepped_alone_to_the_same_bits(
    vgg: Vgg, small: Tensor, init: Init
) -> None:
    plans = [replace(plan, init=init, iterations=3) for plan in (PLAN, ADAM)]

    def make(network: Vgg, count: int) -> list[Render]:
        return [Render(plan, network, small, [Style(small.flip(0))]) for plan in plans[:count]]

    one = needed(vgg, lambda network: make(network, 1))
    both = needed(vgg, lambda network: make(network, 2))
    arena = Tight((one + both) // 2)
    tight = network(vgg, arena)
    ends = []
    with Loop(budget_bytes=2**30) as loop, ExitStack() as stack:
        with held(loop):
            runs = [
                stack.enter_context(loop.admit(lambda i=i: make(tight, 2)[i])) for i in range(2)
            ]
        ends = [last(run) for run in runs]
    assert arena.refusals >= 4  # at the start and in each iteration
    assert not arena.has_seen_strips
    for end, alone in zip(ends, make(vgg, 2), strict=True):
        while not alone.is_finished:
            alone.step()
        assert torch.equal(end.image, alone.image())


def test_without_memory_for_one_it_is_stepped_in_strips(
    vgg: Vgg, content: Tensor, small: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least budget is for canvases that a test has no time for: here it is lower."""
    monkeypatch.setattr(loops, "LEAST_BYTES", 2**16)
    plan, high = replace(PLAN, iterations=2), content.repeat(4, 1, 1)

    def make(network: Vgg) -> list[Render]:
        return [Render(plan, network, high, [Style(small)])]

    whole, strips = (needed(vgg, make, budget_bytes) for budget_bytes in (None, 1))
    assert strips < whole
    arena = Tight((whole + strips) // 2)
    with (
        Loop(budget_bytes=2 * whole) as loop,
        loop.admit(lambda: make(network(vgg, arena))[0]) as run,
    ):
        events = list(run)
    assert [event.progress.iteration for event in events] == [0, 1, 2]
    assert arena.refusals
    assert arena.has_seen_strips
    (render,) = make(vgg)
    for event in events[:2]:
        render.step()
        assert event.progress.losses == pytest.approx(render.progress.losses, rel=1e-3)


def test_without_memory_in_any_way_a_render_fails_and_no_other(
    vgg: Vgg, content: Tensor, small: Tensor
) -> None:
    def make(network: Vgg, picture: Tensor) -> Render:
        return Render(PLAN, network, picture, [Style(small)])

    enough = needed(vgg, lambda network: [make(network, small)])
    arena = Tight(2 * enough)
    tight = network(vgg, arena)
    with Loop(budget_bytes=2**30) as loop, ExitStack() as stack:
        with held(loop):
            fits = stack.enter_context(loop.admit(lambda: make(tight, small)))
            large = stack.enter_context(loop.admit(lambda: make(tight, content.repeat(2, 2, 1))))
        with pytest.raises(OutOfMemory, match="bytes are left for"):
            list(large)
        assert last(fits).progress.iteration == 6
    assert arena.refusals > 1


def test_a_render_is_built_with_the_memory_that_passes_took(
    vgg: Vgg, small: Tensor, content: Tensor
) -> None:
    """The painting is passed as it is built: of 64 px, after passes of 32 px."""

    def make(network: Vgg, style: Tensor) -> Render:
        return Render(PLAN, network, small, [Style(style)])

    arena = Watched()
    make(network(vgg, arena), content)
    assert arena.size_bytes == 0  # what a painting took is given back
    arena = Tight(arena.most_bytes)
    tight = network(vgg, arena)
    with Loop(budget_bytes=2**30) as loop, loop.admit(lambda: make(tight, small)) as first:
        first.events()
        with loop.admit(lambda: make(tight, content)) as second:
            assert last(second).progress.iteration == 6
        assert last(first).progress.iteration == 6
    assert arena.refusals


def test_a_render_without_the_memory_to_be_built_fails(vgg: Vgg, loop: Loop, small: Tensor) -> None:
    tight = network(vgg, Tight(2**16))
    with (
        loop.admit(lambda: Render(PLAN, tight, small, [Style(small)])) as run,
        pytest.raises(OutOfMemory, match="bytes are left for"),
    ):
        list(run)


def test_the_progress_counter_rises_with_each_strip_and_stands_still_while_the_device_does(
    vgg: Vgg, small: Tensor, style: Tensor
) -> None:
    is_held, may_go_on = threading.Event(), threading.Event()

    class Held(Render):
        @staticmethod
        def step_together(
            renders: Sequence[Render], *, check: Callable[[], None], **options: Any
        ) -> list[Exception | None]:
            if renders[0].iteration == 3:
                is_held.set()
                may_go_on.wait()
            return Render.step_together(renders, check=check, **options)

    with Loop() as loop, loop.admit(lambda: Held(PLAN, vgg, small, [Style(style)])) as run:
        is_held.wait()
        before = loop.progress_counter, vgg.progress_counter
        assert min(before) > 2 * 3, "several strips in each of the iterations so far"
        may_go_on.set()
        last(run)
        assert loop.progress_counter > before[0]
        assert vgg.progress_counter > before[1]


class Count:
    """A render of the least that the loop asks of one: it counts."""

    batch_key = "counts"
    pass_bytes, spare_bytes, device = 1, 0, torch.device("cpu")

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.iteration = -1

    @property
    def is_finished(self) -> bool:
        return self.iteration == self.iterations

    @property
    def progress(self) -> Progress:
        losses, level = Losses(0.0, 0.0, 0.0, 0.0), Level(1, 1, 1, Factors(1.0, 1.0, 0.0))
        return Progress(self.iteration, self.iterations, losses, 0.0, self.iteration, losses, level)

    def release(self) -> None: ...

    def snapshot(self) -> Callable[[], Tensor]:
        image = torch.full((1, 1, 3), float(self.iteration))
        return lambda: image

    def state_dict(self) -> dict[str, Tensor]:
        return {"iteration": torch.tensor(self.iteration), "image": self.snapshot()()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.iteration = int(state["iteration"])

    @staticmethod
    def step_together(
        renders: "Sequence[Count]", *, check: Callable[[], None], **_: object
    ) -> list[Exception | None]:
        for render in renders:
            check()
            render.iteration += 1
        return [None for _ in renders]


def test_the_loop_steps_whatever_has_a_renders_face(loop: Loop) -> None:
    with loop.admit(lambda: Count(3)) as run:
        events = list(run)

    assert [event.progress.iteration for event in events] == [0, 1, 2, 3]
    assert events[-1].image.flatten().tolist() == [3, 3, 3]
