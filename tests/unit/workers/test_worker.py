"""A worker claims while it has a free slot, looks out by itself, and lets go when told."""

import threading
import time
from pathlib import Path

import pytest

from impasto.shared.database import Database, jobs
from impasto.shared.errors import Unavailable
from impasto.shared.states import State
from impasto.shared.storage import open_storage
from tests.arrange.jobs import submit
from tests.arrange.stores import Forgetful, Watched
from tests.arrange.worker import Bench, wait_until_it_says, worker_of, working


@pytest.fixture
def bench(database: Database) -> Bench:
    return Bench(database)


@pytest.fixture
def alive(tmp_path: Path) -> Path:
    """The file by which a worker shows that it is."""
    return tmp_path / "alive"


def submit_all(database: Database, count: int) -> list[str]:
    return [submit(database).id for _ in range(count)]


def state(database: Database, job_id: str) -> State:
    return jobs.get(database, job_id).state


def test_a_claim_whose_answer_was_lost_is_found_to_be_made(
    database: Database, bench: Bench
) -> None:
    job_id = submit(database).id
    forgetful = Forgetful(database, lambda it: jobs.list_jobs(it, states=[State.RUNNING]))
    bench.finish.release()
    worker = worker_of(forgetful, bench)

    worker.work()
    assert (forgetful.lost, bench.began, state(database, job_id)) == (1, [], State.RUNNING)
    worker.start()
    assert bench.began_one.acquire(timeout=60)
    assert worker.close(60)

    assert (state(database, job_id), jobs.get(database, job_id).attempt) == (State.SUCCEEDED, 1)


def test_one_wake_up_is_enough_for_all_that_is_queued(database: Database, bench: Bench) -> None:
    ids = submit_all(database, 3)
    bench.finish.release(3)

    worker_of(database, bench).work()

    assert bench.began == ids
    assert {state(database, each) for each in ids} == {State.SUCCEEDED}


def test_a_wake_up_behind_a_claim_that_found_nothing_is_not_lost(
    database: Database, bench: Bench
) -> None:
    def notify() -> None:
        submit(database)
        worker.work()  # it finds no free slot

    first = [notify]
    late = Watched(database, lambda: first.pop()() if first else None)
    worker = worker_of(late, bench)
    bench.finish.release()

    worker.work()

    assert len(bench.began) == 1


def test_a_worker_takes_no_more_than_it_has_slots(database: Database, bench: Bench) -> None:
    submit_all(database, 3)
    worker = worker_of(database, bench, slots=2)
    wakes = [threading.Thread(target=worker.work) for _ in range(3)]

    for wake in wakes:
        wake.start()
    for _ in range(2):
        assert bench.began_one.acquire(timeout=60)

    assert not bench.began_one.acquire(timeout=0.2)
    bench.finish.release(3)
    for wake in wakes:
        wake.join()
    assert len(bench.began) == 3


def test_an_idle_worker_finds_a_job_that_no_wake_up_told_of(
    database: Database, bench: Bench
) -> None:
    with working(database, bench):
        submit(database)

        assert bench.began_one.acquire(timeout=60)
        bench.finish.release()


def test_a_worker_that_starts_late_fills_its_slots_at_once(
    database: Database, bench: Bench
) -> None:
    ids = submit_all(database, 3)
    with working(database, bench, slots=2, idle_seconds=600):
        for _ in range(2):
            assert bench.began_one.acquire(timeout=60)

        assert set(bench.began) == set(ids[:2])
        bench.finish.release(3)
        assert bench.began_one.acquire(timeout=60)


def test_a_worker_looks_when_it_is_told_to(database: Database, bench: Bench, alive: Path) -> None:
    worker = worker_of(database, bench, idle_seconds=600, alive_file=alive)
    worker.look()  # it has not started
    worker.start()
    wait_until_it_says(alive, "ready")
    submit(database)

    worker.look()

    assert bench.began_one.acquire(timeout=60)
    bench.finish.release()
    assert worker.close(60)


def test_a_worker_that_is_ready_again_looks_at_once(
    database: Database, bench: Bench, alive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("impasto.workers.worker._READY_SECONDS", 0.05)
    is_away = threading.Event()
    is_away.set()

    def check() -> None:
        if is_away.is_set():
            raise Unavailable

    submit(database)
    with working(database, bench, check=check, idle_seconds=600, alive_file=alive):
        wait_until_it_says(alive, "unavailable")
        assert bench.began == []

        is_away.clear()

        assert bench.began_one.acquire(timeout=60)
        bench.finish.release()


def test_a_worker_that_drains_hands_back_and_claims_nothing(
    database: Database, bench: Bench
) -> None:
    first, second = submit_all(database, 2)
    with working(database, bench) as worker:
        assert bench.began_one.acquire(timeout=60)
    worker.work()

    assert bench.began == [first]
    assert state(database, first) == state(database, second) == State.QUEUED
    assert jobs.get(database, first).failures == 0


def test_the_next_job_is_one_of_the_same_canvas(database: Database, bench: Bench) -> None:
    first, other, same = submit(database), submit(database, canvas=(256, 256)), submit(database)
    bench.finish.release(3)

    worker_of(database, bench).work()

    assert bench.began == [first.id, same.id, other.id]


def test_a_worker_shows_that_it_is_alive(database: Database, bench: Bench, alive: Path) -> None:
    with working(database, bench, alive_file=alive):
        wait_until_it_says(alive, "ready")
        alive.unlink()
        wait_until_it_says(alive, "ready")


def test_a_worker_whose_storage_is_away_claims_nothing_and_goes_on_by_itself(
    database: Database, bench: Bench, alive: Path, tmp_path: Path
) -> None:
    place = tmp_path / "storage"
    place.write_text("where a folder should be")
    job_id = submit(database).id
    check = open_storage(place.as_uri()).check
    with working(database, bench, check=check, alive_file=alive) as worker:
        wait_until_it_says(alive, f"unavailable: cannot write to {place}")
        worker.work()
        assert (bench.began, state(database, job_id)) == ([], State.QUEUED)

        place.unlink()
        place.mkdir()
        assert bench.began_one.acquire(timeout=60)
        wait_until_it_says(alive, "ready")
        bench.finish.release()


def test_a_storage_that_came_back_is_noticed_where_there_is_nothing_to_do(
    database: Database, bench: Bench, alive: Path, tmp_path: Path
) -> None:
    place = tmp_path / "storage"
    check = open_storage(place.as_uri()).check
    with working(database, bench, check=check, alive_file=alive) as worker:
        worker.work()  # as after a wake-up
        wait_until_it_says(alive, "unavailable: ")

        place.mkdir()

        wait_until_it_says(alive, "ready")


def test_a_worker_looks_out_whatever_happens(database: Database, bench: Bench, alive: Path) -> None:
    alive.mkdir()  # cannot be written
    asked = threading.Semaphore(0)

    def check() -> None:
        asked.release()
        if bench.finish.acquire(blocking=False):
            raise Unavailable
        raise ZeroDivisionError("nobody foresaw this")

    bench.finish.release()
    with working(database, bench, check=check, alive_file=alive) as worker:
        worker.work()

        for _ in range(4):
            assert asked.acquire(timeout=60)


def test_a_worker_waits_no_longer_than_it_may_for_slots_that_do_not_end(
    database: Database, bench: Bench
) -> None:
    over, began = threading.Event(), threading.Semaphore(0)

    def render(job: jobs.Job, stopping: threading.Event) -> None:
        began.release()
        over.wait()

    submit_all(database, 2)
    worker = worker_of(database, bench, render=render, slots=2).start()
    for _ in range(2):
        assert began.acquire(timeout=60)

    asked = time.monotonic()
    assert not worker.close(1.5)
    assert 1.5 <= time.monotonic() - asked < 3  # as long as for one, not for each
    over.set()
