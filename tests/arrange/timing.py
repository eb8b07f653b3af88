"""To wait for what must come, to begin at the same moment, and to let time pass."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any


def wait_until(is_so: Callable[[], object], seconds: float = 240) -> None:
    """Return once it is so; the bound is much for the slowest machine, unless a test names one."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"it did not come to that within {seconds:g} s"
        time.sleep(0.01)


def at_once(count: int, do: Callable[[], Any]) -> list[Any]:
    """What it returns in so many threads that begin together."""
    together = Barrier(count)

    def begin() -> Any:
        together.wait()
        return do()

    with ThreadPoolExecutor(count) as threads:
        return [each.result() for each in [threads.submit(begin) for _ in range(count)]]


class Clock:
    """Runs, and can be put forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._ahead

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


class StoppedClock:
    """Stands still, unless a test sets it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds
