"""The life of a job, on both databases."""

import contextlib
import datetime
import itertools
from collections.abc import Callable
from functools import partial

import pytest

from impasto.shared.database import Database, jobs
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import ATTEMPTS_MAX, FAILURES_MAX, Claim, Job, Progress
from impasto.shared.errors import (
    Diverged,
    IdempotencyConflict,
    JobNotFound,
    LeaseLost,
    RenderFailed,
)
from impasto.shared.spec import JobSpec
from impasto.shared.states import MOVES, TERMINAL, End, Phase, State
from tests.arrange.jobs import (
    A_MOMENT,
    LOSS,
    RESULT,
    WRITES,
    Write,
    assert_fenced,
    change,
    claim,
    claim_all,
    everything,
    expire,
    running,
    submit,
)
from tests.arrange.specs import CANVAS, spec
from tests.arrange.timing import at_once

# Submitting.


def test_a_submitted_job_waits_with_all_that_was_asked_for(database: Database) -> None:
    asked = spec(
        iterations=30,
        priority=3,
        labels={"for": "Ω 'x' \"y\""},
        seed=2**53 - 1,
        deadline_seconds=90,
    )

    job, is_new = jobs.submit(database, asked, CANVAS)

    assert is_new
    assert job == jobs.get(database, job.id)
    assert JobSpec.model_validate(job.spec) == asked
    assert job.spec_digest == asked.digest()
    assert (job.state, job.version, job.attempt, job.failures) == (State.QUEUED, 1, 0, 0)
    assert (job.width, job.height, job.priority, job.iterations) == (*CANVAS, 3, 30)
    assert job.labels == asked.labels
    assert job.deadline_at is not None
    patience = job.deadline_at - job.created_at
    assert datetime.timedelta(0) <= patience - datetime.timedelta(seconds=90) < A_MOMENT
    assert job.claim_id is job.worker is job.phase is job.error is job.result is None


def test_unknown_jobs_are_named(database: Database) -> None:
    for find in (jobs.get, jobs.view, jobs.request_cancel):
        with pytest.raises(JobNotFound, match="there is no job 'nowhere'"):
            find(database, "nowhere")
    with pytest.raises(JobNotFound, match="there is no job 'nowhere'"):
        jobs.list_jobs(database, before="nowhere")


def test_a_submission_that_is_repeated_finds_its_job(database: Database) -> None:
    job, _ = jobs.submit(database, spec(seed=1), CANVAS, idempotency_key="k")
    taken = claim(database)

    again, is_new = jobs.submit(database, spec(seed=1), CANVAS, idempotency_key="k")

    assert not is_new
    assert again == taken
    assert again.id == job.id
    assert len(jobs.list_jobs(database)) == 1


def test_owners_may_use_the_same_idempotency_key(database: Database) -> None:
    mine, _ = jobs.submit(database, spec(seed=1), CANVAS, idempotency_key="k")

    theirs, is_new = jobs.submit(
        database, spec(seed=2), CANVAS, idempotency_key="k", owner_id="other"
    )

    assert is_new
    assert (mine.owner_id, theirs.owner_id) == ("default", "other")
    found = jobs.find_by_idempotency_key(database, spec(seed=2), "k", owner_id="other")
    assert found == theirs


def test_an_idempotency_key_is_good_for_one_spec(database: Database) -> None:
    job, _ = jobs.submit(database, spec(iterations=1), CANVAS, idempotency_key="k")

    with pytest.raises(IdempotencyConflict, match=f"the key 'k' belongs to job {job.id}"):
        jobs.submit(database, spec(iterations=2), CANVAS, idempotency_key="k")

    assert [each.id for each in jobs.list_jobs(database)] == [job.id]


def test_submissions_without_a_key_are_jobs_of_their_own(database: Database) -> None:
    assert submit(database).id != submit(database).id


def test_of_two_submissions_at_once_with_one_key_one_makes_the_job(database: Database) -> None:
    for key in "abc":
        twice = partial(jobs.submit, database, spec(), CANVAS, idempotency_key=key)

        (one, is_new), (other, is_new_too) = at_once(2, twice)

        assert one == other
        assert {is_new, is_new_too} == {True, False}


# Claiming.


def test_a_claim_begins_an_attempt(database: Database) -> None:
    job = submit(database)

    taken = jobs.claim(database, worker="w1", lease_seconds=60)

    assert taken is not None
    assert taken == jobs.get(database, job.id)
    assert (taken.state, taken.phase, taken.attempt) == (State.RUNNING, Phase.LOADING, 1)
    assert taken.worker == "w1"
    assert taken.claim == Claim(job.id, 1, str(taken.claim_id))
    assert taken.started_at is not None
    assert taken.claimed_at is not None
    assert taken.lease_expires_at is not None
    lease = taken.lease_expires_at - taken.claimed_at
    assert abs(lease - datetime.timedelta(seconds=60)) < A_MOMENT
    (attempt,) = jobs.view(database, job.id).attempts
    assert (attempt.attempt, attempt.worker, attempt.end) == (1, "w1", None)
    assert attempt.started_at == taken.claimed_at


def test_an_empty_queue_gives_nothing(database: Database) -> None:
    assert jobs.claim(database, worker="w1", lease_seconds=60) is None


def test_priority_goes_before_age(database: Database) -> None:
    wanted = [(1, 2), (1, 0), (0, 5), (0, 4), (0, 3), (0, 2), (0, 1), (-1, 9)]
    ids = {}
    for priority, age in sorted(wanted):
        job = submit(database, priority=priority)
        ids[priority, age] = change(database, job, created_at=now(-age)).id

    assert claim_all(database) == [ids[each] for each in wanted]


def test_the_canvas_that_a_worker_renders_goes_before_age_but_not_before_priority(
    database: Database,
) -> None:
    other, same, urgent = (
        submit(database, canvas=(640, 480)),
        submit(database),
        submit(database, canvas=(640, 480), priority=1),
    )
    for job, age in ((other, 2), (same, 1), (urgent, 0)):
        change(database, job, created_at=now(-age))

    assert claim_all(database, preferred=CANVAS) == [urgent.id, same.id, other.id]


def test_each_job_is_claimed_once_however_many_race(database: Database) -> None:
    submitted = [submit(database).id for _ in range(40)]

    # There is one for each of these calls: none may come back with nothing.
    claims = at_once(8, lambda: [claim(database) for _ in range(5)])

    taken = list(itertools.chain.from_iterable(claims))

    assert sorted(job.id for job in taken) == sorted(submitted)
    assert {job.attempt for job in taken} == {1}
    assert len({job.claim_id for job in taken}) == 40


def test_a_job_rests_before_it_is_tried_again(database: Database) -> None:
    job = running(database)
    jobs.retry(database, job.claim, Diverged(), after_seconds=60)

    assert jobs.count_runnable(database) == 0
    assert jobs.claim(database, worker="w1", lease_seconds=60) is None

    change(database, job, available_at=now())
    assert jobs.count_runnable(database) == 1
    assert claim(database).id == job.id


def test_a_job_whose_deadline_passed_is_not_claimed(database: Database) -> None:
    job = submit(database, deadline_seconds=60)
    assert jobs.count_runnable(database) == 1

    change(database, job, deadline_at=now(-1))

    assert jobs.count_runnable(database) == 0
    assert jobs.claim(database, worker="w1", lease_seconds=60) is None


def test_a_claim_whose_answer_was_lost_is_found_again_with_a_new_lease(
    database: Database,
) -> None:
    lost = running(database)
    change(database, lost, lease_expires_at=now(1))

    found = jobs.reclaim(database, lost.claim.claim_id, lease_seconds=60)

    assert found is not None
    assert found == jobs.get(database, lost.id)
    assert found.claim == lost.claim
    assert found.lease_expires_at is not None
    assert found.lease_expires_at > jobs.view(database, lost.id).at + A_MOMENT


def test_a_claim_that_got_nothing_or_lost_it_finds_nothing_again(database: Database) -> None:
    lost = running(database)
    expire(database, lost)

    assert jobs.reclaim(database, lost.claim.claim_id, lease_seconds=60) is None
    assert jobs.reclaim(database, "never answered", lease_seconds=60) is None


# Reporting.


def test_a_report_tells_how_far_the_attempt_is_and_renews_its_lease(database: Database) -> None:
    job = running(database)
    change(database, job, lease_expires_at=now(1))
    progress = Progress(Phase.RENDERING, iteration=7, it_per_s=2.5, loss=LOSS)

    told = jobs.report(database, job.claim, progress, lease_seconds=60)

    assert told == jobs.get(database, job.id)
    assert (told.phase, told.iteration, told.it_per_s) == (Phase.RENDERING, 7, 2.5)
    assert told.loss == LOSS
    assert told.lease_expires_at is not None
    assert told.lease_expires_at > jobs.view(database, job.id).at + datetime.timedelta(seconds=30)


def test_a_lease_may_be_renewed_without_news(database: Database) -> None:
    job = running(database)
    WRITES["report"](database, job.claim)
    before = change(database, job, lease_expires_at=now(1))

    after = jobs.report(database, job.claim, None, lease_seconds=60)

    assert after.version == before.version
    assert (after.iteration, after.loss) == (7, LOSS)
    assert after.lease_expires_at is not None
    assert before.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at


def test_news_that_comes_late_takes_nothing_back(database: Database) -> None:
    job = running(database)
    for iteration, total in ((7, 1.0), (5, 2.0)):
        news = Progress(Phase.RENDERING, iteration, it_per_s=total, loss={"total": total})
        jobs.report(database, job.claim, news, lease_seconds=60)

    told = jobs.report(database, job.claim, Progress(Phase.SAVING), lease_seconds=60)

    assert (told.phase, told.iteration) == (Phase.SAVING, 7)
    assert (told.it_per_s, told.loss) == (1.0, {"total": 1.0})


def test_an_attempt_learns_of_a_cancel_request_without_a_write(database: Database) -> None:
    job = running(database)
    assert jobs.read_claimed(database, job.claim) == job

    asked = jobs.request_cancel(database, job.id)

    assert jobs.read_claimed(database, job.claim) == asked


def test_a_report_tells_the_worker_of_a_cancel_request(database: Database) -> None:
    job = running(database)
    progress = Progress(Phase.RENDERING)
    assert not jobs.report(database, job.claim, progress, lease_seconds=60).cancel_requested_at

    jobs.request_cancel(database, job.id)

    assert jobs.report(database, job.claim, progress, lease_seconds=60).cancel_requested_at


def test_a_new_attempt_begins_at_nothing(database: Database) -> None:
    first = running(database)
    WRITES["report"](database, first.claim)
    WRITES["add_snapshot"](database, first.claim)
    jobs.hand_back(database, first.claim)

    second = claim(database, worker="w2")

    assert (second.attempt, second.iteration, second.it_per_s) == (2, 0, None)
    assert second.loss is None
    assert second.started_at == first.started_at
    assert jobs.view(database, first.id).snapshots == []


# The fence.


def test_an_attempt_that_lost_its_lease_changes_nothing(database: Database) -> None:
    stale = running(database)
    expire(database, stale)
    claim(database, worker="w2")

    assert_fenced(database, stale.claim)


def test_an_attempt_whose_job_is_in_the_queue_again_changes_nothing(database: Database) -> None:
    stale = running(database)
    expire(database, stale)

    assert_fenced(database, stale.claim)


def test_a_claim_is_good_for_its_own_job(database: Database) -> None:
    job, other = running(database), running(database)

    assert_fenced(database, Claim(job.id, job.attempt, other.claim.claim_id))
    assert jobs.get(database, other.id) == other


# The ends of an attempt.


def test_a_job_succeeds_with_its_result(database: Database) -> None:
    job = running(database)

    jobs.succeed(database, job.claim, RESULT)

    view = jobs.view(database, job.id)
    assert (view.job.state, view.job.result) == (State.SUCCEEDED, RESULT)
    assert view.job.finished_at is not None
    assert view.job.phase is view.job.lease_expires_at is None
    (attempt,) = view.attempts
    assert attempt.end == End.SUCCEEDED
    assert attempt.ended_at is not None


def test_a_failed_job_says_why(database: Database) -> None:
    job = running(database)

    jobs.fail(database, job.claim, Diverged("the loss was inf at iteration 12"))

    view = jobs.view(database, job.id)
    assert view.job.state == State.FAILED
    assert view.job.finished_at is not None
    assert view.job.error is not None
    assert view.job.error["code"] == "diverged"
    assert view.job.error["detail"] == "the loss was inf at iteration 12"
    (attempt,) = view.attempts
    assert (attempt.end, attempt.error) == (End.FAILED, view.job.error)


def test_a_failure_that_counts_is_tried_again_until_the_budget_is_spent(
    database: Database,
) -> None:
    job = submit(database)
    for failures in range(1, FAILURES_MAX):
        jobs.retry(database, claim(database).claim, RenderFailed(), after_seconds=0)

        again = jobs.get(database, job.id)
        assert (again.state, again.failures, again.error) == (State.QUEUED, failures, None)
        assert again.finished_at is None

    jobs.retry(database, claim(database).claim, RenderFailed("once more"), after_seconds=0)

    view = jobs.view(database, job.id)
    assert (view.job.state, view.job.failures) == (State.FAILED, FAILURES_MAX)
    assert view.job.finished_at is not None
    assert view.job.error is not None
    assert view.job.error["detail"] == "once more"
    retried = [End.RETRIED] * (FAILURES_MAX - 1)
    assert [attempt.end for attempt in view.attempts] == [*retried, End.FAILED]
    assert [attempt.attempt for attempt in view.attempts] == [1, 2, 3]


def test_what_is_handed_back_counts_as_no_failure(database: Database) -> None:
    job = submit(database)
    for _ in range(FAILURES_MAX + 1):
        jobs.hand_back(database, claim(database).claim)

    view = jobs.view(database, job.id)
    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert view.job.attempt == FAILURES_MAX + 1
    assert {attempt.end for attempt in view.attempts} == {End.HANDED_BACK}


@pytest.mark.parametrize("name", ["retry", "hand_back", "take_back"])
def test_a_job_is_not_begun_for_ever(database: Database, name: str) -> None:
    again = WRITES | {"take_back": lambda _database, _claim: expire(database, job)}
    job = change(database, running(database), attempt=ATTEMPTS_MAX - 1)
    again[name](database, job.claim)
    assert jobs.get(database, job.id).state == State.QUEUED

    last = claim(database)
    assert last.attempt == ATTEMPTS_MAX
    again[name](database, last.claim)

    failed = jobs.get(database, job.id)
    assert (failed.state, failed.finished_at is None) == (State.FAILED, False)
    assert failed.error is not None
    assert failed.error["code"] == "attempts_exhausted"
    assert failed.error["detail"] == "none of 50 attempts came to an end"


def test_a_worker_that_stops_acknowledges_the_cancel_request(database: Database) -> None:
    job = running(database)
    jobs.request_cancel(database, job.id)

    jobs.acknowledge_cancel(database, job.claim)

    view = jobs.view(database, job.id)
    assert view.job.state == State.CANCELLED
    assert view.job.finished_at is not None
    assert [attempt.end for attempt in view.attempts] == [End.CANCELLED]


@pytest.mark.parametrize("failures", [0, FAILURES_MAX - 1])
@pytest.mark.parametrize("name", ["retry", "hand_back"])
def test_a_job_with_a_cancel_request_does_not_go_back_into_the_queue(
    database: Database, name: str, failures: int
) -> None:
    job = change(database, running(database), failures=failures)
    jobs.request_cancel(database, job.id)

    WRITES[name](database, job.claim)

    view = jobs.view(database, job.id)
    assert view.job.state == State.CANCELLED
    assert view.job.finished_at is not None
    assert [attempt.end for attempt in view.attempts] == [End.CANCELLED]


@pytest.mark.parametrize("name", ["retry", "hand_back"])
def test_whoever_repeats_the_end_of_an_attempt_is_told_that_it_is_done(
    database: Database, name: str
) -> None:
    job = running(database)
    WRITES[name](database, job.claim)
    before = everything(database, job.id)

    WRITES[name](database, job.claim)
    assert everything(database, job.id) == before

    claim(database, worker="w2")
    before = everything(database, job.id)
    WRITES[name](database, job.claim)
    assert everything(database, job.id) == before


def test_an_end_that_was_not_the_attempts_own_is_no_repetition(database: Database) -> None:
    first = running(database)
    jobs.hand_back(database, first.claim)
    second = claim(database)
    for name in ("succeed", "fail", "retry", "acknowledge_cancel"):
        with pytest.raises(LeaseLost):
            WRITES[name](database, first.claim)

    jobs.succeed(database, second.claim, RESULT)

    stranger = Claim(second.id, second.attempt, first.claim.claim_id)
    for of in (first.claim, stranger):
        with pytest.raises(LeaseLost):
            jobs.succeed(database, of, RESULT)


# Cancelling.


def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    job = submit(database)

    cancelled = jobs.request_cancel(database, job.id)

    assert cancelled == jobs.get(database, job.id)
    assert cancelled.state == State.CANCELLED
    assert cancelled.cancel_requested_at is not None
    assert cancelled.finished_at is not None
    assert jobs.claim(database, worker="w1", lease_seconds=60) is None


def test_a_running_job_is_only_asked_to_cancel(database: Database) -> None:
    job = running(database)

    asked = jobs.request_cancel(database, job.id)

    assert asked.state == State.RUNNING
    assert asked.cancel_requested_at is not None
    assert asked.finished_at is None
    assert asked.version == job.version + 1


def test_a_cancel_request_that_is_repeated_changes_nothing(database: Database) -> None:
    job = running(database)

    assert jobs.request_cancel(database, job.id) == jobs.request_cancel(database, job.id)


def test_a_job_may_be_finished_in_spite_of_a_cancel_request(database: Database) -> None:
    job = running(database)
    jobs.request_cancel(database, job.id)

    jobs.succeed(database, job.claim, RESULT)

    assert jobs.get(database, job.id).state == State.SUCCEEDED


# Expiry.


def test_a_job_whose_worker_is_silent_is_taken_back(database: Database) -> None:
    silent, alive = running(database), running(database)
    change(database, silent, lease_expires_at=now(-1))

    (taken,) = jobs.requeue_expired(database)

    assert taken == jobs.get(database, silent.id)
    assert (taken.state, taken.failures) == (State.QUEUED, 1)
    assert taken.worker is taken.lease_expires_at is taken.phase is None
    assert [each.end for each in jobs.view(database, silent.id).attempts] == [End.LEASE_EXPIRED]
    assert jobs.get(database, alive.id) == alive
    assert jobs.requeue_expired(database) == []
    assert claim(database).attempt == 2


def test_nobody_is_blamed_for_a_lease_that_an_outage_kept_from_being_renewed(
    database: Database,
) -> None:
    job = change(database, running(database), failures=1, lease_expires_at=now(-1))

    (taken,) = jobs.requeue_expired(database, count_failure=False)

    assert taken.id == job.id
    assert (taken.state, taken.failures) == (State.QUEUED, 1)


def test_a_job_that_is_taken_back_too_often_fails(database: Database) -> None:
    job = submit(database)
    for _ in range(FAILURES_MAX):
        claim(database)
        (taken,) = expire(database, job)

    view = jobs.view(database, job.id)
    assert taken == view.job
    assert (taken.state, taken.failures) == (State.FAILED, FAILURES_MAX)
    assert taken.finished_at is not None
    assert taken.error is not None
    assert taken.error["code"] == "attempts_exhausted"
    assert {attempt.end for attempt in view.attempts} == {End.LEASE_EXPIRED}


@pytest.mark.parametrize("failures", [0, FAILURES_MAX - 1])
def test_a_job_that_is_requeued_after_a_cancel_request_is_cancelled(
    database: Database, failures: int
) -> None:
    job = change(database, running(database), failures=failures)
    jobs.request_cancel(database, job.id)

    (taken,) = expire(database, job)

    assert taken.state == State.CANCELLED
    assert taken.finished_at is not None
    assert taken.error is None


def test_a_worker_that_starts_again_gives_back_what_it_had_and_nobody_is_blamed(
    database: Database,
) -> None:
    mine, theirs = running(database), running(database, worker="w2")

    (taken,) = jobs.requeue_from(database, "w1")

    assert taken.id == mine.id
    assert (taken.state, taken.failures) == (State.QUEUED, 0)
    assert jobs.get(database, theirs.id) == theirs


def test_a_queued_job_whose_deadline_passed_fails(database: Database) -> None:
    overdue = submit(database, deadline_seconds=60)
    in_time, in_no_hurry = submit(database, deadline_seconds=60), submit(database)
    in_work = running(database, deadline_seconds=60, priority=1)
    for job in (overdue, in_work):
        change(database, job, deadline_at=now(-1))

    (failed,) = jobs.fail_overdue(database)

    assert failed == jobs.get(database, overdue.id)
    assert failed.state == State.FAILED
    assert failed.finished_at is not None
    assert failed.error is not None
    assert failed.error["code"] == "deadline_exceeded"
    for job in (in_time, in_no_hurry):
        assert jobs.get(database, job.id) == job
    assert jobs.get(database, in_work.id).state == State.RUNNING


# What ended, and what changed.


ENDS: dict[State, Write] = {
    State.SUCCEEDED: WRITES["succeed"],
    State.FAILED: WRITES["fail"],
    State.CANCELLED: WRITES["acknowledge_cancel"],
}


# Whoever ends an attempt once more, since the first answer was lost, is told that it is done.
REPEATS: dict[str, set[State]] = {
    "succeed": {State.SUCCEEDED},
    "fail": {State.FAILED},
    "acknowledge_cancel": {State.CANCELLED},
    "retry": {State.FAILED, State.CANCELLED},
    "hand_back": {State.CANCELLED},
}


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_nothing_moves_a_job_that_has_ended(database: Database, state: State) -> None:
    job = running(database)
    ENDS[state](database, job.claim)
    change(
        database,
        job,
        available_at=now(-1),
        deadline_at=now(-1),
        lease_expires_at=now(-1),
        worker="w1",
    )
    before = everything(database, job.id)
    ended = before[0].job
    assert ended.state == state

    for name, write in WRITES.items():
        repeats = state in REPEATS.get(name, ())
        with contextlib.nullcontext() if repeats else pytest.raises(LeaseLost):
            write(database, job.claim)
    assert jobs.request_cancel(database, job.id) == ended
    assert jobs.claim(database, worker="w1", lease_seconds=60) is None
    assert jobs.requeue_expired(database) == []
    assert jobs.requeue_from(database, "w1") == []
    assert jobs.fail_overdue(database) == []

    assert everything(database, job.id) == before


def test_the_functions_make_all_moves_of_the_table_and_no_other(database: Database) -> None:
    def overdue(job: Job) -> None:
        change(database, job, deadline_at=now(-1))
        jobs.fail_overdue(database)

    acts: list[Callable[[Job], object]] = [
        lambda _: jobs.claim(database, worker="w1", lease_seconds=60),
        lambda job: jobs.request_cancel(database, job.id),
        lambda job: expire(database, job),
        overdue,
    ]
    acts += [lambda job, write=write: write(database, job.claim) for write in WRITES.values()]

    moves: dict[State, set[State]] = {state: set() for state in State}
    for arrange, act in itertools.product((submit, running), acts):
        job = arrange(database)
        try:
            act(job)
        except LeaseLost:
            assert arrange is submit
        after = jobs.get(database, job.id).state
        if after != job.state:
            moves[job.state].add(after)
        jobs.request_cancel(database, job.id)  # out of the way of the next one

    assert moves == MOVES


def test_the_version_rises_with_each_visible_change(database: Database) -> None:
    def version() -> int:
        return jobs.get(database, job.id).version

    job = submit(database)
    seen = [version()]
    jobs.hand_back(database, claim(database).claim)
    seen.append(version())
    attempt = claim(database).claim
    seen.append(version())
    for name in ("report", "add_snapshot", "resume", "retry"):
        WRITES[name](database, attempt)
        seen.append(version())
    claim(database)
    expire(database, job)
    seen.append(version())
    attempt = claim(database).claim
    seen.append(version())
    jobs.request_cancel(database, job.id)
    seen.append(version())
    jobs.acknowledge_cancel(database, attempt)
    seen.append(version())

    assert all(one < next_ for one, next_ in itertools.pairwise(seen)), seen


def test_the_version_rises_with_the_end(database: Database) -> None:
    for end in ENDS.values():
        job = running(database)

        end(database, job.claim)

        assert jobs.get(database, job.id).version > job.version


def test_the_version_rises_when_a_deadline_passes(database: Database) -> None:
    job = submit(database, deadline_seconds=60)
    change(database, job, deadline_at=now(-1))

    (failed,) = jobs.fail_overdue(database)

    assert failed.version > job.version


# Looking.


def test_a_view_tells_how_many_jobs_go_first(database: Database) -> None:
    job = submit(database)
    change(database, job, created_at=now(-10))
    older, younger, urgent, late, in_work, resting = (
        submit(database),
        submit(database),
        submit(database, priority=1),
        submit(database, priority=-1),
        submit(database),
        submit(database),
    )
    for other, age in ((older, 11), (younger, 9), (urgent, 9), (late, 11), (resting, 11)):
        change(database, other, created_at=now(-age))
    change(database, resting, available_at=now(60))
    change(database, in_work, created_at=now(-11), state=State.RUNNING)

    assert jobs.view(database, job.id).ahead == 2  # older and urgent


def test_jobs_of_one_age_stand_in_the_order_of_their_claims(database: Database) -> None:
    same_moment = submit(database).created_at
    for job in [submit(database) for _ in range(3)]:
        change(database, job, created_at=same_moment)
    waiting = jobs.list_jobs(database)
    for job in waiting:
        change(database, job, created_at=same_moment)

    ahead = {job.id: jobs.view(database, job.id).ahead for job in waiting}

    assert sorted(ahead, key=ahead.__getitem__) == claim_all(database)
    assert sorted(ahead.values()) == [0, 1, 2, 3]


def test_a_view_shows_the_snapshots_of_the_attempt_in_order(database: Database) -> None:
    job = running(database)
    for iteration in (100, 50):
        jobs.add_snapshot(database, job.claim, iteration, f"key/{iteration}")

    view = jobs.view(database, job.id)

    assert [each.iteration for each in view.snapshots] == [50, 100]
    assert view.snapshots[0].key == "key/50"
    assert view.snapshots[0].attempt == 1
    assert view.ahead == 0


def test_the_listing_is_of_the_states_that_are_asked_for(database: Database) -> None:
    waiting, in_work = submit(database), running(database, priority=1)
    done = running(database, priority=1)
    jobs.succeed(database, done.claim, RESULT)

    def listed(*states: State) -> set[str]:
        return {job.id for job in jobs.list_jobs(database, states=list(states))}

    assert listed() == {waiting.id, in_work.id, done.id}
    assert listed(State.QUEUED) == {waiting.id}
    assert listed(State.QUEUED, State.SUCCEEDED) == {waiting.id, done.id}
    assert listed(State.FAILED) == set()


def test_jobs_are_found_by_their_labels(database: Database) -> None:
    one = submit(database, labels={"is": "yes", "size": "2"})
    other = submit(database, labels={"is": "no", "size": "2"})

    def listed(**labels: str) -> set[str]:
        return {job.id for job in jobs.list_jobs(database, labels=labels)}

    assert listed(size="2") == {one.id, other.id}
    assert listed(size="2", **{"is": "yes"}) == {one.id}
    assert listed(size="3", **{"is": "yes"}) == set()
    assert listed(siz="2") == set()


def test_labels_may_be_odd(database: Database) -> None:
    names = ["a.b", "a/b", "-", "..", "0", "a"]
    values = ["it's", 'say "x"', "a\\b", "100%_", "Ω 日本 🎨", "null", "1", "{}", " "]
    odd = [{name: "x"} for name in names] + [{"a": value} for value in values]
    submitted = [submit(database, labels=labels) for labels in odd]

    found = [jobs.list_jobs(database, labels=labels) for labels in odd]

    assert found == [[job] for job in submitted]


@pytest.mark.parametrize("at_one_moment", [False, True])
def test_pages_hold_each_job_once_while_new_ones_arrive(
    database: Database, at_one_moment: bool
) -> None:
    submitted = [submit(database) for _ in range(10)]
    for age, job in enumerate(submitted):
        change(database, job, created_at=now(-100 - (0 if at_one_moment else age)))
    if at_one_moment:
        moment = jobs.get(database, submitted[0].id).created_at
        for job in submitted:
            change(database, job, created_at=moment)
    everything = [job.id for job in jobs.list_jobs(database)]

    seen: list[str] = []
    while page := jobs.list_jobs(database, before=seen[-1] if seen else None, limit=3):
        assert len(page) <= 3
        seen += [job.id for job in page]
        submit(database)

    assert seen == everything
    assert set(seen) == {job.id for job in submitted}
    if not at_one_moment:
        assert seen == [job.id for job in submitted]
