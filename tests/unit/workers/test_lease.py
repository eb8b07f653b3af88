"""A lease is renewed while the work gets further, and given up before others are let in."""

import datetime
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from impasto.shared.database import Database, jobs, open_database
from impasto.shared.errors import Cancelled, HandedBack, LeaseLost, Unavailable
from impasto.shared.states import Phase, State
from impasto.workers.lease import Lease, LeaseTimings
from tests.arrange.jobs import running
from tests.arrange.timing import Clock, wait_until

TERMS = LeaseTimings(lease_seconds=60, heartbeat_seconds=0.05, progress_seconds=0.02)


@pytest.fixture
def job(database: Database) -> jobs.Job:
    return running(database, worker="test")


def expiry(database: Database, job: jobs.Job) -> datetime.datetime:
    found = jobs.get(database, job.id).lease_expires_at
    assert found is not None
    return found


def lease_of(database: Database, job: jobs.Job, **options: object) -> Lease:
    given = {"terms": TERMS, "stopping": threading.Event(), **options}
    return Lease(database, job, **given)


@pytest.mark.parametrize(
    ("lease_seconds", "fence_seconds", "renew_seconds"),
    [(60, 10, 15), (600, 10, 15), (3, 0.5, 0.75)],
)
def test_a_worker_lets_go_in_time_and_renews_four_times_before(
    lease_seconds: float, fence_seconds: float, renew_seconds: float
) -> None:
    terms = LeaseTimings(lease_seconds=lease_seconds)

    assert (terms.fence_seconds, terms.renew_seconds) == (fence_seconds, renew_seconds)


def test_a_lease_is_renewed_while_the_work_gets_further_and_no_longer(
    database: Database, job: jobs.Job
) -> None:
    steps = [0]
    with lease_of(database, job) as lease:
        lease.watch(lambda: steps[0], patience_seconds=0.3)
        for _ in range(3):
            before = expiry(database, job)
            steps[0] += 1
            wait_until(lambda before=before: expiry(database, job) > before)

        wait_until(lambda: lease.is_stalled)
        before = expiry(database, job)
        time.sleep(4 * TERMS.heartbeat_seconds)  # in which there would be four more
        assert expiry(database, job) == before

        steps[0] += 1
        wait_until(lambda: expiry(database, job) > before)


def test_what_is_told_is_written_and_the_last_of_it_with_the_end(
    database: Database, job: jobs.Job
) -> None:
    def told(iteration: int) -> jobs.Progress:
        return jobs.Progress(Phase.RENDERING, iteration, 2.0, {"total": 1.0})

    with lease_of(database, job) as lease:
        lease.tell(told(3))
        wait_until(lambda: jobs.get(database, job.id).iteration == 3)
        lease.tell(told(9))
        lease.commit(lambda: jobs.succeed(database, job.claim, {}))

    ended = jobs.get(database, job.id)
    assert (ended.state, ended.iteration, ended.loss) == (State.SUCCEEDED, 9, {"total": 1.0})


def test_a_lease_is_over_before_the_database_lets_others_in(
    database: Database, job: jobs.Job
) -> None:
    clock = Clock()
    lease = lease_of(database, job, clock=clock)

    clock.advance(49)
    lease.check()
    clock.advance(2)

    with pytest.raises(LeaseLost):
        lease.check()


def test_an_outage_is_outlived_until_the_fence(tmp_path: Path, job: jobs.Job) -> None:
    with closing(open_database(f"sqlite:///{tmp_path / 'empty.db'}")) as gone:
        gone.engine.dispose()

        class Away(Database):
            def write(self) -> None:
                raise Unavailable

            read = write

        clock = Clock()
        with lease_of(Away(gone.engine), job, clock=clock) as lease:
            time.sleep(0.1)
            lease.check()
            threading.Timer(0.3, clock.advance, [51]).start()
            with pytest.raises(LeaseLost):
                lease.commit(lambda: jobs.succeed(Away(gone.engine), job.claim, {}))


def test_who_lost_the_lease_hears_it_without_writing(database: Database, job: jobs.Job) -> None:
    with lease_of(database, job) as lease:
        jobs.requeue_from(database, "test")
        wait_until(lambda: raises(lease, LeaseLost))


def test_a_cancel_is_written_by_the_lease_itself(database: Database, job: jobs.Job) -> None:
    with lease_of(database, job) as lease:
        jobs.request_cancel(database, job.id)
        wait_until(lambda: jobs.get(database, job.id).state == State.CANCELLED)
        wait_until(lambda: raises(lease, Cancelled))


def test_a_worker_that_stops_is_heeded_at_once_unless_the_rest_is_short(
    database: Database, job: jobs.Job
) -> None:
    stopping = threading.Event()
    lease = lease_of(database, job, stopping=stopping)
    stopping.set()

    with pytest.raises(HandedBack):
        lease.check()
    lease.finish()

    lease.check()


def raises(lease: Lease, error: type[Exception]) -> bool:
    try:
        lease.check()
    except error:
        return True
    return False
