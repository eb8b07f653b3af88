"""Whether work gets on."""

import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)


class Watchdog:
    """Looks at a count that changes as long as work gets on; alone it does nothing.

    job_id: of whose work; for the log.
    clock: monotonic, in seconds.
    """

    def __init__(self, job_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._job_id = job_id
        self._clock = clock
        self.watch(lambda: 0, 0.0)

    def watch(self, progress_counter: Callable[[], int], patience_seconds: float) -> None:
        """From now on this count has to change within so many seconds, again and again."""
        self._progress_counter = progress_counter
        self._count, self._counted_at = progress_counter(), self._clock()
        self._patience_seconds = patience_seconds
        self.is_stalled = False  # as it was when somebody looked last

    def look(self) -> bool:
        """Whether it does."""
        count, now = self._progress_counter(), self._clock()
        if count != self._count:
            self._count, self._counted_at = count, now
        idle_seconds = now - self._counted_at
        is_alive = idle_seconds <= self._patience_seconds
        if not is_alive and not self.is_stalled:
            _log.error("stalled", job=self._job_id, seconds=round(idle_seconds))
        self.is_stalled = not is_alive
        return is_alive
