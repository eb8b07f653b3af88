"""Whether work gets on, by a clock that the test moves."""

import pytest
from structlog.testing import capture_logs

from impasto.workers.watchdog import Watchdog


class Work:
    """A count, and a clock beside it."""

    def __init__(self) -> None:
        self.count, self.now = 0, 100.0


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def watchdog(work: Work) -> Watchdog:
    made = Watchdog("job", lambda: work.now)
    made.watch(lambda: work.count, 10.0)
    return made


def test_work_that_gets_on_is_alive_however_long_it_takes(work: Work, watchdog: Watchdog) -> None:
    for _ in range(9):
        work.now, work.count = work.now + 9, work.count + 1
        assert watchdog.look()
    assert not watchdog.is_stalled


def test_work_that_stands_still_is_reported_once_until_it_gets_on(
    work: Work, watchdog: Watchdog
) -> None:
    with capture_logs() as logs:
        for seconds in (10, 1, 5):
            work.now += seconds
            assert watchdog.look() == (work.now <= 110)
        assert watchdog.is_stalled

        work.count += 1
        assert watchdog.look()
        assert not watchdog.is_stalled

        work.now += 11
        assert not watchdog.look()
    assert [(one["event"], one["job"], one["seconds"]) for one in logs] == [
        ("stalled", "job", 11),
        ("stalled", "job", 11),
    ]


def test_something_else_to_watch_begins_anew(work: Work, watchdog: Watchdog) -> None:
    work.now += 11
    assert not watchdog.look()

    watchdog.watch(lambda: work.count, 20.0)

    assert not watchdog.is_stalled
    work.now += 20
    assert watchdog.look()
