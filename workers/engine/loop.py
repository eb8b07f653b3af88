"""The one thread that owns the device and steps every render that is in, in turns."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from torch import Tensor

from workers.engine.errors import LoopClosed, RunOver
from workers.engine.render import Progress, Render


@dataclass(frozen=True, eq=False)
class Event:
    """A render came as far as `progress`; its picture, float32 (H, W, 3), where one was due."""

    progress: Progress
    image: Tensor | None


class Run:
    """One render's stay in the loop, as the thread that admitted it sees it.

    `Loop` calls what has an underscore, from its own thread, which alone touches the render.
    """

    def __init__(self, build: Callable[[], Render], capture_every: int) -> None:
        self._build = build
        self._capture_every = capture_every
        self._render: Render | None = None
        self._is_leaving = False

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

    def state(self) -> dict[str, Tensor]:
        """The render's `state_dict()` at the next boundary between iterations.

        Raises RunOver if the render ends before it, or what the render raised.
        """
        asked: Future[dict[str, Tensor]] = Future()
        with self._news:
            if self._is_over:
                raise self._error or RunOver("the render is over, and its state gone")
            self._asked.append(asked)
        return asked.result()

    def leave(self) -> None:
        """Lets the render do no further iteration; does not wait for the one it may be in."""
        self._is_leaving = True

    def _turn(self) -> None:
        """Builds the render, or takes it one iteration further."""
        if self._is_leaving:
            self._end(RunOver("the render was left before its last iteration"))
            return
        try:
            render = self._render
            if render is None:
                render = self._render = self._build()
            else:
                render.step()
            self._report(render)
            if render.is_finished:
                self._end(None)
        except Exception as error:  # this render's alone: the others go on
            self._end(error)

    def _report(self, render: Render) -> None:
        image = render.image() if render.is_finished or self._captures(render.iteration) else None
        with self._news:
            self._events.append(Event(render.progress, image))
            self._news.notify()
        while self._asked:
            state = render.state_dict()  # may raise: whoever asked must still be in the list
            self._asked.pop().set_result(state)

    def _captures(self, iteration: int) -> bool:
        return bool(self._capture_every and iteration and iteration % self._capture_every == 0)

    def _end(self, error: Exception | None) -> None:
        self._render = None
        with self._news:
            self._is_over = True
            self._error = error
            for future in self._asked:
                future.set_exception(error or RunOver("the render is over, and its state gone"))
            self._asked.clear()
            self._news.notify()


class Loop:
    """Renders come and go between iterations; one thread steps them all.

    with Loop() as loop, loop.admit(build) as run:
        for event in run:
            ...
    """

    def __init__(self) -> None:
        self._bell = threading.Condition()  # guards what follows
        self._runs: list[Run] = []
        self._is_closed = False
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
    def admit(self, build: Callable[[], Render], capture_every: int = 0) -> Iterator[Run]:
        """Has a render stepped to its end, or until the `with` is left.

        build: makes the render; called on the loop's thread, because it touches the device.
        capture_every: iterations between events that carry the picture; 0 for none but the last.
        Raises LoopClosed if the loop takes no renders any more.
        """
        run = Run(build, capture_every)
        with self._bell:
            if self._is_closed:
                raise LoopClosed("the loop is closed")
            self._runs.append(run)
            self._bell.notify()
        try:
            yield run
        finally:
            run.leave()

    def close(self) -> None:
        """Ends the thread after the iteration it is in; whoever is in gets LoopClosed."""
        with self._bell:
            self._is_closed = True
            self._bell.notify()
        self._thread.join()

    def _serve(self) -> None:
        while runs := self._present():
            for run in runs:
                if self._is_closed:
                    break
                run._turn()
        for run in self._runs:
            run._end(LoopClosed("the loop was closed before the render's last iteration"))

    def _present(self) -> list[Run]:
        """The runs that want a turn; waits for one. None once the loop is closed."""
        with self._bell:
            self._runs = [run for run in self._runs if not run._is_over]
            self._bell.wait_for(lambda: self._runs or self._is_closed)
            return [] if self._is_closed else list(self._runs)
