"""What happened in a render: its losses, its pace, its times."""

import csv
import io
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from impasto.shared.database import jobs
from impasto.shared.states import Phase

from .engine.objective.balance import Factors
from .engine.render.render import Progress

COLUMNS = (
    *("iteration", "total", "content", "style", "tv", "seconds"),
    *("level", "width", "height", *Factors._fields),
)
_RATE_WINDOW = 12  # reports over which the iterations per second are averaged


class LossHistory:
    """Grows by one entry per iteration; entry 0 is the start, looked at.

    history: the entries of the attempts that this one goes on from.
    clock: monotonic, in seconds.
    times: when the first iteration of this attempt began, and when its last entry was made.
    """

    def __init__(
        self, history: Iterable[Progress] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._entries = list(history)
        self._pace: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)
        self.times: dict[str, datetime] = {}

    def enter(self, progress: Progress) -> None:
        if not self._entries or progress.iteration > self.iterations:  # else restored at its end
            self._entries.append(progress)
        self.times.setdefault("began_at", datetime.now(UTC) - timedelta(seconds=progress.seconds))
        self.times["ended_at"] = datetime.now(UTC)

    def progress(self, phase: Phase) -> jobs.Progress:
        """How far it has come, as the database takes it."""
        if not self._entries:
            return jobs.Progress(phase)
        last = self._entries[-1]
        if not self._pace or self._pace[-1][1] != last.iteration:
            self._pace.append((self._clock(), last.iteration))
        (then, before), (now, after) = self._pace[0], self._pace[-1]
        rate = (after - before) / (now - then) if after > before and now > then else None
        return jobs.Progress(phase, last.iteration, rate, last.losses._asdict())

    def until(self, iteration: int) -> list[Progress]:
        """The entries up to an iteration, that one's included."""
        return [entry for entry in self._entries if entry.iteration <= iteration]

    @property
    def iterations(self) -> int:
        """How many there were: fewer than were asked for, if patience ended them."""
        return self._entries[-1].iteration

    @property
    def best(self) -> int:
        """The iteration whose picture is the one so far: the best of the last level."""
        return self._entries[-1].best

    def losses(self) -> dict[str, float]:
        """The parts of the objective for the picture so far."""
        return self._entries[-1].losses._asdict()

    def csv(self) -> bytes:
        """The loss history: a line per iteration, what it tried, `COLUMNS` first.

        The picture's loss is the least of those of the last level.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for entry in self._entries:
            level = entry.level
            its = level.number, level.width, level.height, *level.factors
            writer.writerow((entry.iteration, *entry.evaluated, f"{entry.seconds:.4f}", *its))
        return text.getvalue().encode()
