"""The one thread that owns the device and steps every render that is in: continuous batching.

Between two iterations renders come and go. Those of one batch key, of one size above all, share a
pass; batches take turns, each for its fair share of the device's time.
"""

import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from .device import memory
from .errors import LoopClosed, OutOfMemory, RunOver
from .render.render import Progress

LEAST_BYTES = 2**24  # no strip is so thin that less would do
# For so long another thread may hold the interpreter while the loop waits for it, which hands it
# over at each of a step's hundreds of operations. With Python's 5 ms a snapshot's encoder, which
# needs 0.6 ms, cost a step of 54 ms 4 to 9 ms more; with this 1 to 4 (256 px, two cores).
SWITCH_SECONDS = 2e-4
_GONE = "the render is over, and its state gone"


class Stepped(Protocol):
    """What the loop steps: the engine's `Render`, or a class with the same public face.

    batch_key: of one class, renders for which this is equal are stepped together.
    is_finished: at its last iteration; it is stepped no more.
    pass_bytes, spare_bytes: as in `Render`; with 1 and 0 all of a batch are stepped at once.
    """

    @property
    def batch_key(self) -> Hashable: ...
    @property
    def iteration(self) -> int: ...
    @property
    def progress(self) -> Progress: ...
    @property
    def is_finished(self) -> bool: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def pass_bytes(self) -> int: ...
    @property
    def spare_bytes(self) -> int: ...

    def weights(self) -> Mapping[str, Any]:
        """All that is weighed at its size, for whoever asks how a picture came to be."""

    def release(self) -> None:
        """Frees what passes keep for the next one."""

    def snapshot(self) -> Callable[[], Tensor]:
        """Takes the picture so far: float32 (H, W, 3), 0..255, on the host, of the canvas's size.

        What is returned waits for it, in any thread.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on; with `iteration` (), and `image`, float32."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where the state was taken."""

    @staticmethod
    def step_together(
        renders: Sequence[Any], *, budget_bytes: int | None, check: Callable[[], None]
    ) -> list[Exception | None]:
        """The next step of each; what went wrong with each. The first one evaluates the start.

        check: to be called now and then; what it raises ends the step with nothing changed.
        """


@dataclass(frozen=True, eq=False)
class Event:
    """A render came as far as `progress`."""

    progress: Progress
    snapshot: Callable[[], Tensor] | None

    @property
    def image(self) -> Tensor | None:
        """The picture, float32 (H, W, 3), where one was due; waits until the device has sent it."""
        return self.snapshot() if self.snapshot else None


class Run:
    """One render's stay in the loop, as the thread that admitted it sees it.

    `Loop` calls what has an underscore, from its own thread, which alone touches the render.
    """

    def __init__(self, build: Callable[[], Stepped], snapshot_every: int, is_alone: bool) -> None:
        self._build = build
        self._snapshot_every = snapshot_every
        self._is_alone = is_alone
        self._render: Stepped | None = None
        self._is_leaving = False
        self._seconds = 0.0  # its share of the device's time so far
        self._most_bytes = sys.maxsize  # that a pass of it may take; less once memory ran out

        self._news = threading.Condition()  # guards what both threads touch:
        self._events: list[Event] = []
        self._asked: list[Future[dict[str, Tensor]]] = []
        self._is_over = False
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[Event]:
        """Every event to the end of the render; raises what the render raised."""
        while events := self.events():
            yield from events

    def events(self, timeout: float | None = None) -> list[Event]:
        """What happened since the last call, oldest first; waits until something did.

        The render's first event is its start, before any iteration moved it.
        timeout: in seconds. An empty list says that nothing happened in it, or that the render is
        over: see `is_over`.
        Raises what the render raised, once the events before that are read.
        """
        with self._news:
            self._news.wait_for(lambda: self._events or self._is_over, timeout)
            events, self._events = self._events, []
            if self._error and not events:
                raise self._error
            return events

    @property
    def is_over(self) -> bool:
        """Nothing more will happen, and every event was read."""
        with self._news:
            return self._is_over and not self._events

    def state(self) -> Future[dict[str, Tensor]]:
        """The render's `state_dict()` at the next boundary between iterations, once it is there.

        The events before that boundary are there first. The future raises RunOver if the render
        ends before it, or what the render raised.
        """
        asked: Future[dict[str, Tensor]] = Future()
        with self._news:
            if self._is_over:
                asked.set_exception(self._error or RunOver(_GONE))
            else:
                self._asked.append(asked)
        return asked

    def leave(self) -> None:
        """Lets the render do no further iteration, and ends the one it is in between two strips."""
        self._is_leaving = True

    def _batch_key(self) -> Hashable:
        """Runs for which this is equal are stepped together. Builds the render."""
        if self._render is None:
            self._render = self._build()
        return id(self) if self._is_alone else (type(self._render), self._render.batch_key)

    def _is_done(self) -> bool:
        return self._render is not None and self._render.is_finished

    def _report(self) -> None:
        """After a step: its event, and the end if it was the last."""
        try:
            self._tell()
        except Exception as error:  # this render's alone: the others go on
            self._end(error)

    def _tell(self) -> None:
        current = self._render
        assert current is not None
        is_due = current.is_finished or self._is_snapshot_due(current.iteration)
        event = Event(current.progress, current.snapshot() if is_due else None)
        with self._news:
            self._events.append(event)
            self._news.notify()
        while self._asked:
            state = current.state_dict()  # may raise: whoever asked must still be in the list
            self._asked.pop().set_result(state)
        if current.is_finished:
            self._end(None)

    def _is_snapshot_due(self, iteration: int) -> bool:
        return bool(self._snapshot_every and iteration and iteration % self._snapshot_every == 0)

    def _end(self, error: Exception | None) -> None:
        self._render = None
        with self._news:
            self._is_over = True
            self._error = error
            for future in self._asked:
                future.set_exception(error or RunOver(_GONE))
            self._asked.clear()
            self._news.notify()


class Loop:
    """Renders come and go between iterations; one thread steps them all.

    with Loop() as loop, loop.admit(build) as run:
        for event in run:
            ...

    budget_bytes: what the features of one pass may take; None for most of what is free when a pass
    begins. Renders that do not fit together take turns, and one that does not fit alone is passed
    in strips.
    It makes the interpreter switch between threads more often, in the whole process.
    progress_counter: rises with each step and between a pass's strips; any thread may read it.
    While it stands still, either there is no render, or the device hangs.
    """

    def __init__(self, budget_bytes: int | None = None) -> None:
        self.progress_counter = 0
        self._budget_bytes = budget_bytes
        self._changed = threading.Condition()  # guards what follows
        self._runs: list[Run] = []
        self._is_closed = False
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        # A process that ends without `close` must not hang on a thread that waits for work.
        self._thread = threading.Thread(target=self._serve, name="engine-loop", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def admit(
        self, build: Callable[[], Stepped], snapshot_every: int = 0, *, is_alone: bool = False
    ) -> Iterator[Run]:
        """Has a render stepped to its end, or until the `with` is left.

        build: makes the render; called on the loop's thread, because it touches the device.
        snapshot_every: iterations between events that carry the picture; 0 for none but the last.
        is_alone: it shares no pass; on a GPU its batch might change its last bits.
        Raises LoopClosed if the loop takes no renders any more.
        """
        run = Run(build, snapshot_every, is_alone)
        with self._changed:
            if self._is_closed:
                raise LoopClosed("the loop is closed")
            # It starts level with the others, with no claim to the time before it came.
            run._seconds = min((other._seconds for other in self._runs), default=0.0)
            self._runs.append(run)
            self._changed.notify()
        try:
            yield run
        finally:
            run.leave()

    def close(self) -> None:
        """Ends the thread after the iteration it is in; whoever is in gets LoopClosed."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _serve(self) -> None:
        while runs := self._present():
            if batch := self._next(runs):
                budget_bytes = self._budget(batch[0])
                self._step(batch[: self._fitting(batch[0], budget_bytes)], budget_bytes)
        for run in self._runs:
            run._end(LoopClosed("the loop was closed before the render's last iteration"))

    def _present(self) -> list[Run]:
        """The runs that want a turn; waits for one. None once the loop is closed."""
        with self._changed:
            self._runs = [run for run in self._runs if not run._is_over]
            self._changed.wait_for(lambda: self._runs or self._is_closed)
            return [] if self._is_closed else list(self._runs)

    def _next(self, runs: Sequence[Run]) -> list[Run]:
        """Whose turn it is: the batch with the least time a head, who had least of it first."""
        batches = defaultdict(list)
        for run in runs:
            if run._is_leaving:
                run._end(RunOver("the render was left before its last iteration"))
                continue
            try:
                key = self._batch_key(run, runs)
                if run._is_done():  # restored after its last iteration
                    run._report()
                else:
                    batches[key].append(run)
            except Exception as error:  # this render's alone: the others go on
                self._end([run], error)
        if not batches:
            return []
        least = min(batches.values(), key=lambda batch: min(r._seconds for r in batch))
        return sorted(least, key=lambda run: run._seconds)

    @staticmethod
    def _batch_key(run: Run, runs: Sequence[Run]) -> Hashable:
        """A run's batch key; builds it, if it must with the memory that the others' passes took."""
        try:
            return run._batch_key()
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
        for other in runs:
            if other._render is not None:
                other._render.release()
        return run._batch_key()

    @staticmethod
    def _fitting(run: Run, budget_bytes: int) -> int:
        """How many renders like this one fit a budget together; at least 1."""
        assert run._render is not None
        return max(1, budget_bytes // run._render.pass_bytes)

    def _budget(self, run: Run) -> int:
        assert run._render is not None
        budget_bytes = self._budget_bytes
        if budget_bytes is None:
            budget_bytes = memory.budget_bytes(run._render.device, run._render.spare_bytes)
        return min(budget_bytes, run._most_bytes)

    def _step(self, batch: list[Run], budget_bytes: int) -> None:
        """One iteration of runs that share a pass.

        Without memory for all it is tried with each alone, then in smaller and smaller strips.
        """
        renders = [run._render for run in batch if run._render is not None]
        try:
            errors = renders[0].step_together(
                renders, budget_bytes=budget_bytes, check=lambda: self._check(batch)
            )
        except _Left:
            return
        except Exception as error:
            is_exhausted = memory.is_exhausted(error)
            if is_exhausted:
                error.with_traceback(None)  # whose frames hold what the pass took
            renders[0].release()
            if is_exhausted and len(batch) > 1:
                for run in batch:
                    self._step([run], self._budget(run))
            elif is_exhausted and budget_bytes > LEAST_BYTES:
                batch[0]._most_bytes = budget_bytes // 2
                self._step(batch, self._budget(batch[0]))
            else:
                self._end(batch, error)
            return
        self.progress_counter += 1
        for run, one, failed in zip(batch, renders, errors, strict=True):
            run._seconds += one.progress.seconds / len(batch)
            if failed:
                run._end(failed)
            else:
                run._report()

    def _check(self, batch: Sequence[Run]) -> None:
        """Between strips: gives a pass up that nobody waits for."""
        self.progress_counter += 1
        if self._is_closed or all(run._is_leaving for run in batch):
            raise _Left

    @staticmethod
    def _end(batch: Sequence[Run], error: Exception) -> None:
        for run in batch:
            run._end(OutOfMemory(str(error)) if memory.is_exhausted(error) else error)


class _Left(Exception):
    """Nobody waits for the pass any more."""
