"""A worker's row says how it is, on both databases; a database that is away costs it nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Connection, Row

from impasto.shared.database import Database, workers
from impasto.shared.database.jobs import Job
from impasto.shared.errors import StorageFull, Unavailable
from impasto.shared.states import WorkerState
from impasto.workers import presence
from impasto.workers.presence import Presence
from tests.arrange.timing import wait_until
from tests.arrange.worker import Bench, worker_of

CHANGE_SECONDS = 0.1


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "CHANGE_SECONDS", CHANGE_SECONDS)
    monkeypatch.setattr("impasto.workers.worker._READY_SECONDS", 0.05)


@pytest.fixture
def told(database: Database) -> Iterator[Presence]:
    with closing(Presence(database, "host:1", slots=2, lease_seconds=60).start()) as told:
        yield told


def row(database: Database) -> Row | None:
    rows = workers.list_workers(database)
    return rows[0] if rows else None


def wait_for(database: Database, **values: object) -> None:
    def is_so() -> bool:
        found = row(database)
        return found is not None and all(getattr(found, key) == values[key] for key in values)

    wait_until(is_so)


def test_a_worker_is_there_from_its_start_to_its_end(database: Database, told: Presence) -> None:
    wait_for(database, name="host:1", slots=2, state=WorkerState.STARTING, is_alive=True)
    assert set(row(database).versions) == {"impasto", "python", "torch"}

    told.tell(device="cpu", state=WorkerState.READY)
    wait_for(database, device="cpu", state=WorkerState.READY)

    told.close()
    assert not row(database).is_alive


def test_a_worker_that_does_not_change_renews_its_lease(database: Database) -> None:
    with closing(Presence(database, "host:1", slots=1, lease_seconds=0.4).start()):
        wait_until(lambda: row(database))
        first = row(database)
        wait_until(lambda: row(database).heartbeat_at > first.lease_expires_at)
        assert row(database).is_alive


def test_a_worker_tells_what_it_is_at(
    database: Database, told: Presence, order: Callable[..., Job]
) -> None:
    """Ready, full, out of disk, ready again, on its way out."""
    bench, is_full = Bench(database), threading.Event()

    def check() -> None:
        if is_full.is_set():
            raise StorageFull("no room in /a/place")

    worker = worker_of(database, bench, slots=2, check=check, tell=told.tell).start()
    wait_for(database, state=WorkerState.READY, busy_slots=0)
    order()
    wait_for(database, busy_slots=1)
    bench.finish.release()
    wait_for(database, busy_slots=0)

    is_full.set()
    wait_for(
        database, state=WorkerState.NOT_READY, code="storage_full", detail="no room in /a/place"
    )
    is_full.clear()
    wait_for(database, state=WorkerState.READY, code=None, detail=None)

    worker.drain()
    wait_for(database, state=WorkerState.DRAINING)
    assert worker.close(5)
    told.tell(state=WorkerState.READY)
    told.close()
    assert row(database).state == WorkerState.DRAINING


def test_how_much_fits_is_measured_while_the_worker_is_idle(
    database: Database, told: Presence
) -> None:
    told.measure(lambda: 10**6)
    told.tell(state=WorkerState.READY)
    wait_for(database, max_pixels=10**6)

    told.measure(lambda: 10)
    told.tell(busy_slots=1)
    wait_for(database, busy_slots=1)
    assert row(database).max_pixels == 10**6


class Away(Database):
    """Out of reach while it is told to be; it counts what was written when it was not."""

    is_away = False
    tries = 0
    commits = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.tries += 1
        if self.is_away:
            raise Unavailable
        with super().write() as connection:
            yield connection
        self.commits += 1


def test_an_outage_of_the_database_is_outlived(database: Database) -> None:
    away = Away(database.engine)
    away.is_away = True
    with closing(Presence(away, "host:1", slots=1, lease_seconds=2).start()) as told:
        told.tell(state=WorkerState.READY)
        wait_until(lambda: away.tries >= 2)
        assert row(database) is None
        away.is_away = False
        wait_for(database, state=WorkerState.READY)
        away.is_away = True
        told.tell(busy_slots=1)
        wait_until(lambda: not row(database).is_alive)
        away.is_away = False
        wait_for(database, busy_slots=1, is_alive=True)


def test_however_much_changes_it_is_written_once_in_a_while(database: Database) -> None:
    counted = Away(database.engine)
    with closing(Presence(counted, "host:1", slots=1, lease_seconds=60).start()) as told:
        began = time.monotonic()
        for number in range(100):
            told.tell(busy_slots=number)
            time.sleep(0.005)  # longer than a write takes, so each could have been written
        seconds = time.monotonic() - began
        assert counted.commits <= 1 + seconds / CHANGE_SECONDS + 1
        wait_for(database, busy_slots=99)
