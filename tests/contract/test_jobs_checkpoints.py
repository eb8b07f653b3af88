"""What an attempt leaves to the next one, on both databases."""

from typing import Any

import pytest
from sqlalchemy import select

from impasto.shared.database import Database, jobs
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import FAILURES_MAX, Claim, Job
from impasto.shared.database.tables import checkpoints
from impasto.shared.errors import Diverged, RenderFailed
from impasto.shared.states import State
from tests.arrange.jobs import (
    WRITES,
    Write,
    change,
    checkpoint,
    claim,
    everything,
    expire,
    running,
    submit,
)

# What is kept.


def test_the_newest_two_checkpoints_are_kept_the_furthest_first(database: Database) -> None:
    job = running(database)

    for iteration in (10, 20, 30, 40):
        add(database, job.claim, iteration)

    assert jobs.checkpoints(database, job.id) == [checkpoint(1, 40), checkpoint(1, 30)]
    assert [(row.iteration, row.tombstoned_at is not None) for row in rows(database, job)] == [
        (10, True),
        (20, True),
        (30, False),
        (40, False),
    ]


def test_a_checkpoint_is_found_by_the_next_attempt_and_replaced_by_its_own(
    database: Database,
) -> None:
    first = running(database)
    for iteration in (10, 20):
        add(database, first.claim, iteration)
    jobs.hand_back(database, first.claim)

    second = claim(database)
    assert jobs.checkpoints(database, first.id) == [checkpoint(1, 20), checkpoint(1, 10)]

    add(database, second.claim, 30)
    assert jobs.checkpoints(database, first.id) == [checkpoint(2, 30), checkpoint(1, 20)]


def test_an_attempt_that_had_to_begin_further_back_is_newer_for_all_that(
    database: Database,
) -> None:
    first = running(database)
    for iteration in (10, 20):
        add(database, first.claim, iteration)
    jobs.hand_back(database, first.claim)
    second = claim(database)

    for iteration in (11, 12):
        add(database, second.claim, iteration)

    assert jobs.checkpoints(database, first.id) == [checkpoint(2, 12), checkpoint(2, 11)]


def test_a_checkpoint_that_proves_corrupt_is_not_found_again(database: Database) -> None:
    job = running(database)
    for iteration in (10, 20):
        add(database, job.claim, iteration)

    jobs.discard_checkpoint(database, job.claim, checkpoint(1, 20))

    assert jobs.checkpoints(database, job.id) == [checkpoint(1, 10)]
    assert [(row.is_corrupt, row.tombstoned_at is None) for row in rows(database, job)] == [
        (False, True),
        (True, False),
    ]
    add(database, job.claim, 30)
    assert jobs.checkpoints(database, job.id) == [checkpoint(1, 30), checkpoint(1, 10)]


def test_a_checkpoint_or_snapshot_whose_answer_was_lost_may_be_written_again(
    database: Database,
) -> None:
    job = running(database)
    for name in ("add_checkpoint", "add_snapshot"):
        WRITES[name](database, job.claim)
        kept, _ = everything(database, job.id), rows(database, job)

        WRITES[name](database, job.claim)

        again = everything(database, job.id)
        assert again[0].snapshots == kept[0].snapshots
        assert again[1] == kept[1]


def test_checkpoints_of_other_jobs_are_let_alone(database: Database) -> None:
    one, other = running(database), running(database)
    for iteration in (10, 20, 30):
        for job in (one, other):
            add(database, job.claim, iteration)

    jobs.discard_checkpoint(database, one.claim, checkpoint(1, 30))
    jobs.succeed(database, one.claim, {})

    assert jobs.checkpoints(database, one.id) == []
    assert jobs.checkpoints(database, other.id) == [checkpoint(1, 30), checkpoint(1, 20)]


def overdue(database: Database, claim: Claim) -> None:
    job = jobs.get(database, claim.job_id)
    jobs.hand_back(database, claim)
    change(database, job, deadline_at=now(-1))
    jobs.fail_overdue(database)


def cancelled_in_the_queue(database: Database, claim: Claim) -> None:
    jobs.hand_back(database, claim)
    jobs.request_cancel(database, claim.job_id)


def vanished(database: Database, claim: Claim) -> None:
    expire(database, change(database, jobs.get(database, claim.job_id), failures=FAILURES_MAX))


def blamed(database: Database, claim: Claim) -> None:
    change(database, jobs.get(database, claim.job_id), failures=FAILURES_MAX)
    jobs.retry(database, claim, Diverged(), after_seconds=0)


ENDS: dict[str, Write] = {
    name: WRITES[name] for name in ("succeed", "fail", "acknowledge_cancel")
} | {each.__name__: each for each in (overdue, cancelled_in_the_queue, vanished, blamed)}


@pytest.mark.parametrize("name", ENDS)
def test_nobody_follows_the_checkpoints_of_a_job_that_has_ended(
    database: Database, name: str
) -> None:
    job = running(database)
    for iteration in (10, 20, 30):
        add(database, job.claim, iteration)

    ENDS[name](database, job.claim)

    assert jobs.get(database, job.id).state not in (State.QUEUED, State.RUNNING)
    assert jobs.checkpoints(database, job.id) == []
    assert None not in {row.tombstoned_at for row in rows(database, job)}


# Progress forgives.


def test_failures_are_forgiven_when_a_checkpoint_is_further_than_any_before(
    database: Database,
) -> None:
    job = submit(database)
    for attempt in range(1, 3 * FAILURES_MAX):
        running_now = claim(database)
        add(database, running_now.claim, 10 * attempt)
        assert jobs.get(database, job.id).failures == 0
        jobs.retry(database, running_now.claim, RenderFailed(), after_seconds=0)
        assert (jobs.get(database, job.id).state, jobs.get(database, job.id).failures) == (
            State.QUEUED,
            1,
        )


@pytest.mark.parametrize("iteration", [0, 10, 20])
def test_failures_are_not_forgiven_for_what_was_reached_before(
    database: Database, iteration: int
) -> None:
    first = running(database)
    add(database, first.claim, 20)
    jobs.discard_checkpoint(
        database, first.claim, checkpoint(1, 20)
    )  # it was reached, for all that
    jobs.retry(database, first.claim, RenderFailed(), after_seconds=0)

    add(database, claim(database).claim, iteration)

    assert jobs.get(database, first.id).failures == 1


def test_a_checkpoint_before_the_first_iteration_is_no_progress(database: Database) -> None:
    job = change(database, running(database), failures=1)

    add(database, job.claim, 0)

    assert jobs.get(database, job.id).failures == 1


# Resuming.


def test_an_attempt_that_resumes_says_from_where(database: Database) -> None:
    first = running(database)
    jobs.hand_back(database, first.claim)
    second = claim(database)

    jobs.resume(database, second.claim, 20)

    view = jobs.view(database, first.id)
    assert (view.job.iteration, view.job.resumed_from_iteration) == (20, 20)
    assert [attempt.resumed_from_iteration for attempt in view.attempts] == [0, 20]

    jobs.hand_back(database, second.claim)
    third = claim(database)
    assert (third.iteration, third.resumed_from_iteration) == (0, 0)


def test_a_view_shows_the_snapshots_that_the_present_attempt_builds_on(database: Database) -> None:
    def shown() -> list[tuple[int, int]]:
        view = jobs.view(database, first.id)
        return [(each.attempt, each.iteration) for each in view.snapshots]

    first = running(database)
    snap(database, first.claim, 10, 20, 30)
    jobs.hand_back(database, first.claim)
    assert shown() == [(1, 10), (1, 20), (1, 30)]

    second = claim(database)
    jobs.resume(database, second.claim, 20)
    assert shown() == [(1, 10), (1, 20)]
    snap(database, second.claim, 20, 30)
    assert shown() == [(1, 10), (2, 20), (2, 30)]

    jobs.hand_back(database, second.claim)
    third = claim(database)
    jobs.resume(database, third.claim, 10)  # what the second one left was corrupt
    snap(database, third.claim, 25)
    assert shown() == [(1, 10), (3, 25)]

    jobs.hand_back(database, third.claim)
    claim(database)
    assert shown() == []


# Arranging.


def add(database: Database, claim: Claim, iteration: int) -> None:
    jobs.add_checkpoint(database, claim, checkpoint(claim.attempt, iteration))


def snap(database: Database, claim: Claim, *iterations: int) -> None:
    for iteration in iterations:
        jobs.add_snapshot(database, claim, iteration, f"{claim.attempt}/{iteration}")


def rows(database: Database, job: Job) -> list[Any]:
    """The job's rows in the order of their iterations, with those that nobody follows."""
    of_job = select(checkpoints).where(checkpoints.c.job_id == job.id)
    with database.read() as connection:
        return list(connection.execute(of_job.order_by(checkpoints.c.iteration)))
