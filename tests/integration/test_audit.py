"""Each invariant, broken on purpose: it is named, and no other is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, delete, update

from impasto.services.audit import INVARIANTS, Bounds, check
from impasto.shared import object_keys
from impasto.shared.database import Database, assets, jobs, tables, workers
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import Job
from impasto.shared.errors import Unavailable
from impasto.shared.states import WorkerState
from impasto.shared.storage import Storage, open_storage
from tests.arrange.jobs import claim, folder, store_checkpoint, store_snapshot, submit, succeed
from tests.arrange.specs import ASSET, BYTES
from tests.arrange.stores import begin_upload, clear, without_triggers
from tests.arrange.worker import identity

IMPATIENT = Bounds(orphan_seconds=0, slack_seconds=-1)  # all that no row names is overdue
NOBODY = "jobs/nobody/1-c/result.png"


@dataclass(frozen=True)
class World:
    """A service in which nothing is wrong."""

    database: Database
    storage: Storage
    done: Job  # succeeded by its second attempt, which went on behind iteration 10
    running: Job  # in its first attempt
    cancelled: Job
    waiting: Job

    def broken(self, bounds: Bounds = Bounds(), **more: Any) -> set[str]:  # noqa: B008
        return {each.invariant for each in check(self.database, self.storage, bounds, **more)}

    def write(self, table: Table, *where: Any, **values: Any) -> None:
        """Change rows behind the back of the triggers."""
        with self.database.write() as connection, without_triggers(connection):
            changed = connection.execute(update(table).where(*where).values(**values))
            assert changed.rowcount

    def result_key(self) -> str:
        return (self.done.result or {})["key"]


@pytest.fixture
def world(kept_database: Database, tmp_path: Path) -> World:
    database, storage = kept_database, open_storage(tmp_path.as_uri())
    clear(database)
    begin_upload(database, ASSET)
    storage.put(object_keys.asset(ASSET), BYTES, "image/png")
    assets.finish_upload(database, ASSET)

    done = submit(database, key="done")
    lost = claim(database, lease_seconds=-1).claim
    store_checkpoint(database, storage, lost, 5)
    store_snapshot(database, storage, lost, 10)
    store_checkpoint(database, storage, lost, 10)
    jobs.requeue_expired(database)
    second = claim(database).claim
    jobs.resume(database, second, 10)
    store_snapshot(database, storage, second, 20)
    store_checkpoint(database, storage, second, 20)
    succeed(database, storage, second)

    running = submit(database)
    taken = claim(database).claim
    store_snapshot(database, storage, taken, 10)
    store_checkpoint(database, storage, taken, 10)

    ready = workers.Condition(WorkerState.READY)
    workers.register(database, identity(), ready, lease_seconds=60)

    cancelled, waiting = submit(database), submit(database)
    jobs.request_cancel(database, cancelled.id)
    ids = (done.id, running.id, cancelled.id, waiting.id)
    return World(database, storage, *(jobs.get(database, job_id) for job_id in ids))


def test_nothing_is_broken_where_nothing_was_broken(world: World) -> None:
    ids = (world.done.id, world.running.id, world.cancelled.id, world.waiting.id)
    accepted = {**dict.fromkeys(ids), world.done.id: "done"}

    assert check(world.database, world.storage, accepted=accepted) == []


Act = Callable[[World], object]
SABOTAGE: dict[str, tuple[str, Act]] = {
    "a history that is gone": (
        "I1",
        lambda it: delete_rows(it, tables.transitions, job_id=it.running.id),
    ),
    "a move that is not legal": (
        "I1",
        lambda it: it.write(
            tables.transitions,
            tables.transitions.c.job_id == it.running.id,
            tables.transitions.c.before == "queued",
            before="succeeded",
        ),
    ),
    "a state that no history led to": (
        "I1",
        lambda it: it.write(tables.jobs, is_job(it.cancelled), state="failed"),
    ),
    "an end without a time": (
        "I1",
        lambda it: it.write(tables.jobs, is_job(it.cancelled), finished_at=None),
    ),
    "an earlier attempt that ended the job, too": (
        "I2",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 1), end="succeeded"),
    ),
    "a success of no attempt": (
        "I2",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 2), end="handed_back"),
    ),
    "a running job whose attempt is over": (
        "I3",
        lambda it: it.write(tables.attempts, is_attempt(it.running, 1), ended_at=now()),
    ),
    "an attempt that goes on after the job's end": (
        "I3",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 1), ended_at=None),
    ),
    "a lease of a job that waits": (
        "I3",
        lambda it: it.write(tables.jobs, is_job(it.waiting), lease_expires_at=now(60)),
    ),
    "an attempt that began before the last was over": (
        "I3",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 1), ended_at=now(60)),
    ),
    "an attempt that fell": (
        "I3",
        lambda it: it.write(
            tables.transitions,
            tables.transitions.c.job_id == it.done.id,
            tables.transitions.c.after == "succeeded",
            attempt=1,
        ),
    ),
    "a pointer of a stale claim": (
        "I4",
        lambda it: it.write(tables.snapshots, *is_snapshot(it.done, 2), claim_id="stale"),
    ),
    "a pointer that was written too late": (
        "I4",
        lambda it: it.write(tables.snapshots, *is_snapshot(it.done, 1), created_at=now()),
    ),
    "a pointer into another folder": (
        "I4",
        lambda it: it.write(tables.snapshots, *is_snapshot(it.done, 1), key=it.result_key()),
    ),
    "a result of an earlier claim": (
        "I4",
        lambda it: it.write(tables.jobs, is_job(it.done), claim_id="stale"),
    ),
    "a result that is missing": ("I5", lambda it: it.storage.delete(it.result_key())),
    "a result of other bytes": ("I5", lambda it: spoil(it.storage, it.result_key())),
    "a snapshot that is missing": (
        "I5",
        lambda it: it.storage.delete(object_keys.snapshot(folder(it.running.claim), 10)),
    ),
    "a checkpoint of other bytes": (
        "I5",
        lambda it: spoil(it.storage, object_keys.checkpoint(folder(it.running.claim), 10)),
    ),
    "a success without a result": (
        "I5",
        lambda it: it.write(tables.jobs, is_job(it.done), result=None),
    ),
    "a picture that is missing": ("I5", lambda it: it.storage.delete(object_keys.asset(ASSET))),
    "a resume from before the last checkpoint": (
        "I6",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 2), resumed_from_iteration=5),
    ),
    "an iteration behind the resume": (
        "I6",
        lambda it: it.write(tables.snapshots, *is_snapshot(it.done, 2), iteration=9),
    ),
    "more iterations than there are": (
        "I6",
        lambda it: it.write(tables.jobs, is_job(it.running), iteration=9999),
    ),
    "a worker that is not ready, and says not why": (
        "I11",
        lambda it: it.write(tables.workers, state="not_ready"),
    ),
    "a worker that is ready, and says why not": (
        "I11",
        lambda it: it.write(tables.workers, code="storage_full"),
    ),
    "a worker that is gone, and listed for ever": (
        "I11",
        lambda it: it.write(tables.workers, lease_expires_at=now(-86400 - 3600 - 60)),
    ),
    "a cancel that nobody heeds": (
        "I8",
        lambda it: it.write(tables.jobs, is_job(it.running), cancel_requested_at=now(-71)),
    ),
    "a cancel that came too late": (
        "I8",
        lambda it: it.write(tables.jobs, is_job(it.cancelled), cancel_requested_at=now(-71)),
    ),
    "a drain that was counted": (
        "I9",
        lambda it: it.write(tables.jobs, is_job(it.waiting), failures=1),
    ),
    "an outage that was an attempt's failure": (
        "I9",
        lambda it: it.write(tables.attempts, is_attempt(it.done, 1), error=Unavailable().problem()),
    ),
    "objects of no job": ("I10", lambda it: it.storage.put(NOBODY, b"x", "image/png")),
    "an object of no attempt": (
        "I10",
        lambda it: it.storage.put(f"jobs/{it.waiting.id}/1-c/result.png", b"x", "image/png"),
    ),
    "bytes of a picture that no row names": (
        "I10",
        lambda it: it.storage.put(object_keys.asset("f" * 64), b"x", "image/png"),
    ),
}


# The rows are the same on both databases, and fewer seconds are better.
@pytest.mark.parametrize("kept_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", SABOTAGE)
def test_what_is_broken_is_named_and_nothing_else(world: World, name: str) -> None:
    invariant, act = SABOTAGE[name]

    act(world)

    assert world.broken() == {invariant}


def test_an_accepted_job_that_is_gone_is_named(world: World) -> None:
    accepted = {world.done.id: "done", "gone": None}

    (broken,) = check(world.database, world.storage, accepted=accepted)

    assert (broken.invariant, broken.job_id) == ("I1", "gone")


def test_two_jobs_that_were_answered_to_one_key_are_named(world: World) -> None:
    accepted = {world.done.id: "done", world.waiting.id: "done"}

    (broken,) = check(world.database, world.storage, accepted=accepted)

    assert (broken.invariant, broken.job_id) == ("I7", world.waiting.id)


def test_an_object_that_no_row_names_has_its_grace(world: World) -> None:
    world.storage.put(f"{folder(world.done.claim)}/left.png", b"x", "image/png")

    assert world.broken() == set()
    assert world.broken(IMPATIENT) == {"I10"}


def test_a_running_attempt_may_have_stored_what_it_will_point_to(world: World) -> None:
    for each in check(world.database, world.storage, IMPATIENT):
        world.storage.delete(each.detail.split()[-1])  # checkpoints of the job that has ended
    world.storage.put(f"{folder(world.running.claim)}/result.png", b"x", "image/png")

    assert world.broken(IMPATIENT) == set()


def test_of_an_expired_job_nothing_is_missed_and_all_is_to_be_deleted(world: World) -> None:
    world.write(tables.jobs, is_job(world.done), expired_at=now())
    world.storage.delete(world.result_key())

    assert world.broken() == set()
    assert world.broken(IMPATIENT) == {"I10"}


def test_digests_are_compared_only_if_objects_are_read(world: World) -> None:
    spoil(world.storage, world.result_key())

    assert world.broken(reads=False) == set()


def test_every_invariant_has_been_broken() -> None:
    assert {invariant for invariant, _ in SABOTAGE.values()} | {"I7"} == set(INVARIANTS)


def spoil(storage: Storage, key: str) -> None:
    storage.delete(key)
    storage.put(key, b"something else", "image/png")


def delete_rows(world: World, table: Table, **where: Any) -> None:
    with world.database.write() as connection:
        assert connection.execute(delete(table).filter_by(**where)).rowcount


def is_job(job: Job) -> Any:
    return tables.jobs.c.id == job.id


def is_attempt(job: Job, number: int) -> Any:
    return (tables.attempts.c.job_id == job.id) & (tables.attempts.c.attempt == number)


def is_snapshot(job: Job, attempt: int) -> tuple[Any, Any]:
    return tables.snapshots.c.job_id == job.id, tables.snapshots.c.attempt == attempt
