"""What workers tell of themselves, and what is read of them, on both databases."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, func, select, update

from impasto.shared.database import Database, jobs, tables, workers
from impasto.shared.database.clock import now
from impasto.shared.database.workers import Condition, Identity
from impasto.shared.states import WorkerState
from tests.arrange.jobs import A_MOMENT, claim, submit
from tests.arrange.worker import identity

READY = Condition(WorkerState.READY, device="cpu", max_pixels=10**6)
FULL = Condition(WorkerState.NOT_READY, code="storage_full", detail="no space is left")


def worker(number: int = 1, **changed: object) -> Identity:
    return identity(number, **{"slots": 2, **changed})


def register(database: Database, told: Identity, condition: Condition = READY) -> Identity:
    workers.register(database, told, condition, lease_seconds=60)
    return told


def vanish(database: Database, told: Identity, *, seconds: float = 1) -> None:
    """Let its lease have run out so long ago."""
    with database.write() as connection:
        connection.execute(
            update(tables.workers)
            .where(tables.workers.c.id == told.id)
            .values(lease_expires_at=now(-seconds), heartbeat_at=now(-seconds - 60))
        )


def test_there_was_never_a_worker(database: Database) -> None:
    assert workers.fleet(database) == workers.Fleet([], None)


def test_workers_that_are_alive_are_summed_up_by_their_state(database: Database) -> None:
    register(database, worker(1))
    register(database, worker(2), dataclasses.replace(READY, busy_slots=1, max_pixels=10**7))
    register(database, worker(3), FULL)
    vanish(database, register(database, worker(4)))

    fleet = workers.fleet(database)

    assert fleet.groups == [
        workers.Group(WorkerState.READY, None, 2, 4, 3, 10**7),
        workers.Group(WorkerState.NOT_READY, "storage_full", 1, 2, 2, workers._ANY_PIXELS),
    ]
    assert fleet.alive == 3


def test_a_worker_that_does_not_know_what_it_can_hold_may_hold_anything(
    database: Database,
) -> None:
    register(database, worker(1))
    register(database, worker(2), dataclasses.replace(READY, max_pixels=None))

    (group,) = workers.fleet(database).groups

    assert group.max_pixels > 16384**2


def test_a_worker_tells_again_how_it_is_and_its_lease_goes_on(database: Database) -> None:
    told = register(database, worker(), Condition())
    vanish(database, told)

    workers.renew(database, told, FULL, lease_seconds=60)

    (row,) = workers.list_workers(database)
    assert (row.state, row.code, row.detail) == (FULL.state, FULL.code, FULL.detail)
    assert (row.name, row.host, row.pid, row.slots, row.versions) == (
        *(told.name, told.host, told.pid, told.slots),
        told.versions,
    )
    assert row.is_alive
    assert row.at - row.heartbeat_at < A_MOMENT
    assert row.started_at <= row.heartbeat_at


def test_a_worker_that_was_forgotten_is_there_again_when_it_tells(database: Database) -> None:
    told = register(database, worker())
    vanish(database, told)
    assert workers.forget(database, older_than_seconds=0) == [told.name]

    workers.renew(database, told, READY, lease_seconds=60)

    assert workers.fleet(database).alive == 1


def test_a_worker_that_leaves_is_gone_at_once_and_remembered(database: Database) -> None:
    told = register(database, worker(), dataclasses.replace(FULL, busy_slots=1))

    for _ in range(2):
        workers.leave(database, told)

    (row,) = workers.list_workers(database)
    assert (row.state, row.code, row.busy_slots) == (WorkerState.DRAINING, None, 0)

    fleet = workers.fleet(database)
    assert fleet.alive == 0
    assert fleet.heartbeat_at is not None


def test_whoever_takes_a_name_replaces_the_one_before(database: Database) -> None:
    """As of a process that was killed: its successor need not wait for its lease."""
    register(database, worker(1, name="host:7"))
    register(database, worker(2))

    register(database, worker(3, name="host:7"), FULL)

    told = {row.id[-1]: row.name for row in workers.list_workers(database)}
    assert told == {"2": "host:2", "3": "host:7"}


def test_a_worker_that_vanished_is_forgotten_in_time(database: Database) -> None:
    for number, seconds in ((1, 3601), (2, 3500)):
        vanish(database, register(database, worker(number)), seconds=seconds)
    register(database, worker(3))

    assert workers.forget(database, older_than_seconds=3600) == ["host:1"]

    assert {row.pid for row in workers.list_workers(database)} == {2, 3}


def test_a_queued_jobs_view_tells_who_is_there_and_a_running_ones_does_not(
    database: Database,
) -> None:
    register(database, worker())
    job = submit(database)
    assert jobs.view(database, job.id).fleet == workers.fleet(database)

    claim(database)

    assert jobs.view(database, job.id).fleet is None


def test_a_view_costs_one_short_query_more_however_many_workers_there_are(
    database: Database,
) -> None:
    queued = submit(database)
    few = answers_of(database, queued.id)
    for number in range(1, 201):
        register(database, worker(number))

    many = answers_of(database, queued.id)

    (about_workers,) = (each for each in many if "workers" in each)
    assert "GROUP BY" in about_workers
    assert len(many) == len(few)
    assert workers.fleet(database).groups[0].workers == 200


@pytest.mark.parametrize("what", ["claim", "report"])
def test_the_hot_path_knows_nothing_of_workers(database: Database, what: str) -> None:
    register(database, worker())
    submit(database)
    taken = claim(database)
    submit(database)

    with statements(database) as told:
        if what == "claim":
            claim(database)
        else:
            jobs.report(database, taken.claim, None, lease_seconds=60)

    assert told
    assert not [each for each in told if "workers" in each]
    with database.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.workers)).scalar() == 1


def answers_of(database: Database, job_id: str) -> list[str]:
    """The statements that reading a job's status takes."""
    with statements(database) as told:
        jobs.view(database, job_id)
    return told


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The texts of the statements that are executed meanwhile."""
    told: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield told
    event.remove(database.engine, "before_cursor_execute", note)
