"""What the database itself holds of a job's life, whoever sends the statement, on both kinds."""

import datetime
import itertools
import re
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from impasto.shared.database import Database, jobs
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import Job
from impasto.shared.database.tables import jobs as table
from impasto.shared.database.tables import transitions
from impasto.shared.errors import Diverged
from impasto.shared.states import MOVES, TERMINAL, State
from tests.arrange.jobs import RESULT, WRITES, change, claim, expire, running, submit

ENDS = {
    State.SUCCEEDED: WRITES["succeed"],
    State.FAILED: WRITES["fail"],
    State.CANCELLED: WRITES["acknowledge_cancel"],
}
REFUSED = re.compile("a job that has ended stays as it is|the state of a job does not move there")
AFTERLIFE: dict[str, Any] = {
    "state": State.RUNNING,
    "attempt": 9,
    "claim_id": "another",
    "failures": 9,
    "result": {"key": "another"},
    "error": {"code": "another"},
    "finished_at": None,
}


@pytest.mark.parametrize("column", AFTERLIFE)
@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_statement_changes_how_a_job_has_ended(
    database: Database, state: State, column: str
) -> None:
    job = running(database)
    ENDS[state](database, job.claim)
    before = jobs.get(database, job.id)

    with pytest.raises(IntegrityError, match=REFUSED):
        change(database, job, **{column: AFTERLIFE[column]})

    assert jobs.get(database, job.id) == before


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_job_that_has_ended_may_expire_and_be_labelled(database: Database, state: State) -> None:
    job = running(database)
    ENDS[state](database, job.claim)

    after = change(database, job, expired_at=now(), version=99, labels={"is": "old"})

    assert after.expired_at is not None
    assert (after.version, after.labels) == (99, {"is": "old"})


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(State, 2)))
def test_a_state_moves_only_where_the_table_of_moves_leads(
    database: Database, before: State, after: State
) -> None:
    job = brought_to(database, before)

    if after in MOVES[before]:
        assert change(database, job, state=after).state == after
        return
    with pytest.raises(IntegrityError, match=REFUSED):
        change(database, job, state=after)
    assert jobs.get(database, job.id) == job


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING])
def test_no_statement_lowers_an_attempt(database: Database, state: State) -> None:
    job = change(database, brought_to(database, state), attempt=3)

    with pytest.raises(IntegrityError, match="the attempt of a job never falls"):
        change(database, job, attempt=2)

    assert jobs.get(database, job.id) == job


def test_each_move_of_a_state_is_remembered(database: Database) -> None:
    job = submit(database)
    first = claim(database)
    WRITES["report"](database, first.claim)
    WRITES["add_checkpoint"](database, first.claim)
    jobs.retry(database, first.claim, Diverged(), after_seconds=0)
    second = claim(database)
    expire(database, second)
    third = claim(database)
    jobs.request_cancel(database, job.id)
    jobs.succeed(database, third.claim, RESULT)

    one, two, three = (each.claim.claim_id for each in (first, second, third))
    assert history(database, job) == [
        (0, None, None, State.QUEUED),
        (1, one, State.QUEUED, State.RUNNING),
        (1, one, State.RUNNING, State.QUEUED),
        (2, two, State.QUEUED, State.RUNNING),
        (2, two, State.RUNNING, State.QUEUED),
        (3, three, State.QUEUED, State.RUNNING),
        (3, three, State.RUNNING, State.SUCCEEDED),
    ]


def test_a_move_that_is_undone_is_forgotten(database: Database) -> None:
    job = running(database)

    def break_off() -> None:
        with database.write() as connection:
            connection.execute(update(table).where(table.c.id == job.id).values(state="queued"))
            connection.execute(insert(table).values(id=job.id))

    with pytest.raises(IntegrityError):
        break_off()

    assert history(database, job)[1:] == [
        (1, job.claim.claim_id, State.QUEUED, State.RUNNING),
    ]


def test_the_history_is_kept_by_the_databases_clock(database: Database) -> None:
    job = running(database)
    with database.read() as connection:
        begun, claimed = connection.execute(
            select(transitions.c.at)
            .where(transitions.c.job_id == job.id)
            .order_by(transitions.c.id)
        ).scalars()

    assert job.claimed_at is not None
    moment = datetime.timedelta(seconds=1)
    assert abs(begun - job.created_at) < moment
    assert abs(claimed - job.claimed_at) < moment


def test_the_history_goes_with_its_job(database: Database) -> None:
    job = running(database)

    with database.write() as connection:
        connection.execute(delete(table).where(table.c.id == job.id))

    assert history(database, job) == []


def brought_to(database: Database, state: State) -> Job:
    """A job in this state."""
    if state == State.QUEUED:
        return submit(database)
    job = running(database)
    if state in ENDS:
        ENDS[state](database, job.claim)
    return jobs.get(database, job.id)


def history(database: Database, job: Job) -> list[tuple[Any, ...]]:
    columns = transitions.c["attempt", "claim_id", "before", "after"]
    of_job = select(*columns).where(transitions.c.job_id == job.id).order_by(transitions.c.id)
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(of_job)]
