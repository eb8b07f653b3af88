"""The life of jobs as a model says it, step by step beside the database, on both kinds.

Hypothesis plays clients, workers that stall and answer late, the reconciler and the clock, in any
order. The model knows no SQL: it says what each must get, and what must be left afterwards.
"""

import contextlib
import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, Table, select, text, update
from sqlalchemy.ext.compiler import compiles

from impasto.shared.database import Database, clock, jobs, tables
from impasto.shared.database.jobs import (
    ATTEMPTS_MAX,
    FAILURES_MAX,
    Checkpoint,
    Claim,
    Job,
    Progress,
)
from impasto.shared.errors import Diverged, LeaseLost
from impasto.shared.states import TERMINAL, End, Phase, State
from tests.arrange.jobs import RESULT, checkpoint
from tests.arrange.specs import CANVAS, spec
from tests.arrange.stores import clear, database_at

LEASE_SECONDS = 60
TOMBSTONES = ("is_corrupt", "tombstoned_at")
DAWN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

# `make test-deep` names the profile of that name.
IS_DEEP = settings.get_current_profile_name() == "deep"
RUNS = settings(
    max_examples=200 if IS_DEEP else 15,
    stateful_step_count=50 if IS_DEEP else 30,
    deadline=None,
    phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@dataclass
class Kept:
    """A checkpoint's row, in the model."""

    attempt: int
    iteration: int
    is_corrupt: bool = False
    is_tombstoned: bool = False


@dataclass
class Life:
    """A job, in the model; times are seconds since dawn."""

    id: str
    created: int
    priority: int
    deadline: int | None
    attempt: int
    state: State = State.QUEUED
    claim_id: str | None = None
    failures: int = 0
    iteration: int = 0
    resumed: int = 0
    is_unwanted: bool = False
    available: int = 0
    lease: int | None = None
    kept: list[Kept] = field(default_factory=list)
    ends: dict[int, End | None] = field(default_factory=dict)
    past: list[tuple[int, State | None, State]] = field(default_factory=list)

    def move(self, state: State) -> None:
        before = self.state if self.past else None
        self.past.append((self.attempt, before, state))
        self.state = state
        self.lease = None
        if state in TERMINAL:
            for each in self.kept:
                each.is_tombstoned = True

    def end(self, how: End, state: State) -> None:
        self.ends[self.attempt] = how
        self.move(state)

    def requeue(self, how: End, available: int) -> None:
        """Back into the queue, unless nobody wants it or it was tried too often."""
        if self.is_unwanted:
            self.end(End.CANCELLED, State.CANCELLED)
        elif self.failures >= FAILURES_MAX:
            self.end(End.FAILED if how == End.RETRIED else how, State.FAILED)
        elif self.attempt >= ATTEMPTS_MAX:
            self.end(how, State.FAILED)
        else:
            self.end(how, State.QUEUED)
            self.available = available

    def found(self) -> list[Checkpoint]:
        usable = [each for each in self.kept if not each.is_corrupt and not each.is_tombstoned]
        usable.sort(key=lambda each: (each.iteration, each.attempt), reverse=True)
        return [checkpoint(each.attempt, each.iteration) for each in usable]


class Lives(RuleBasedStateMachine):
    """What may happen to a few jobs, and what must then be so."""

    database: Database

    lives = Bundle("lives")
    claims = Bundle("claims")  # the stale ones, too: each goes on as if nothing had happened

    def __init__(self) -> None:
        super().__init__()
        self.time = 0
        self.model: dict[str, Life] = {}

    @initialize()
    def dawn(self) -> None:
        clear(self.database)
        set_clock(self.database, self.time)

    # Clients, and time.

    @rule(
        target=lives,
        priority=st.sampled_from([0, 0, 0, 1]),
        patience=st.sampled_from([None, None, None, 30, 90]),
        begun=st.sampled_from([0, 0, 0, ATTEMPTS_MAX - 1]),
    )
    def submit(self, priority: int, patience: int | None, begun: int) -> str:
        # No two of one age: their random ids would decide who is first, in each run anew.
        self._pass(1)
        asked = spec(priority=priority, deadline_seconds=patience)
        key = f"key {len(self.model)}"
        job, is_new = jobs.submit(self.database, asked, CANVAS, idempotency_key=key)
        again, is_new_again = jobs.submit(self.database, asked, CANVAS, idempotency_key=key)
        assert again == job
        assert (is_new, is_new_again) == (True, False)
        with self.database.write() as connection:
            of_job = update(tables.jobs).where(tables.jobs.c.id == job.id)
            connection.execute(of_job.values(attempt=begun))
        deadline = None if patience is None else self.time + patience
        life = Life(job.id, self.time, priority, deadline, begun, available=self.time)
        life.past.append((0, None, State.QUEUED))
        self.model[job.id] = life
        return job.id

    @rule(job_id=lives)
    def wish_to_cancel(self, job_id: str) -> None:
        life = self.model[job_id]
        job = jobs.request_cancel(self.database, job_id)
        if life.state not in TERMINAL:
            life.is_unwanted = True
        if life.state == State.QUEUED:
            life.move(State.CANCELLED)
        assert job.state == life.state

    @rule(seconds=st.sampled_from([1, 5, 10, 29, 30, 59, 60, 61, 90]))
    def stall(self, seconds: int) -> None:
        self._pass(seconds)

    # Workers.

    @rule(target=claims)
    def claim(self) -> Any:
        waiting = [
            life
            for life in self.model.values()
            if life.state == State.QUEUED
            and life.available <= self.time
            and (life.deadline is None or life.deadline > self.time)
        ]
        assert jobs.count_runnable(self.database) == len(waiting)
        job = jobs.claim(self.database, worker="w1", lease_seconds=LEASE_SECONDS)
        if not waiting:
            assert job is None
            return multiple()
        best = min(waiting, key=lambda life: (-life.priority, life.created, life.id))
        assert job is not None
        assert job.id == best.id
        best.attempt += 1
        assert job.attempt == best.attempt
        best.claim_id = job.claim.claim_id
        best.iteration = best.resumed = 0
        best.ends[best.attempt] = None
        best.move(State.RUNNING)
        best.lease = self.time + LEASE_SECONDS
        return job.claim

    @rule(claim=claims)
    def ask_again_for_a_claim_whose_answer_was_lost(self, claim: Claim) -> None:
        life = self.model[claim.job_id]
        job = jobs.reclaim(self.database, claim.claim_id, lease_seconds=LEASE_SECONDS)
        if self._is_live(claim):
            assert job is not None
            assert job.claim == claim
            life.lease = self.time + LEASE_SECONDS
        else:
            assert job is None

    @rule(claim=claims, iteration=st.integers(1, 40))
    def report(self, claim: Claim, iteration: int) -> None:
        news = Progress(Phase.RENDERING, iteration)
        if life := self._asks(claim, jobs.report, news, lease_seconds=LEASE_SECONDS):
            life.lease = self.time + LEASE_SECONDS
            life.iteration = max(life.iteration, iteration)

    @rule(claim=claims)
    def renew(self, claim: Claim) -> None:
        if life := self._asks(claim, jobs.report, None, lease_seconds=LEASE_SECONDS):
            life.lease = self.time + LEASE_SECONDS

    @rule(claim=claims)
    def hear(self, claim: Claim) -> None:
        self._asks(claim, jobs.read_claimed)

    @rule(claim=claims)
    def keep_a_checkpoint(self, claim: Claim) -> None:
        at = self.model[claim.job_id].iteration
        life = self._asks(claim, jobs.add_checkpoint, checkpoint(claim.attempt, at))
        if life is None:
            return
        if at > max((each.iteration for each in life.kept), default=0):
            life.failures = 0
        if (claim.attempt, at) not in [(each.attempt, each.iteration) for each in life.kept]:
            life.kept.append(Kept(claim.attempt, at))
        followed = [each for each in life.kept if not each.is_tombstoned]
        followed.sort(key=lambda each: (each.attempt, each.iteration))
        for each in followed[:-2]:
            each.is_tombstoned = True

    @rule(claim=claims)
    def resume(self, claim: Claim) -> None:
        if found := self._look_for_checkpoints(claim):
            (furthest, *_) = found
            if life := self._asks(claim, jobs.resume, furthest.iteration):
                life.iteration = life.resumed = furthest.iteration

    @rule(claim=claims)
    def find_a_corrupt_checkpoint(self, claim: Claim) -> None:
        if found := self._look_for_checkpoints(claim):
            (furthest, *_) = found
            if life := self._asks(claim, jobs.discard_checkpoint, furthest):
                for each in life.kept:
                    if checkpoint(each.attempt, each.iteration) == furthest:
                        each.is_corrupt = each.is_tombstoned = True

    @rule(claim=claims)
    def succeed(self, claim: Claim) -> None:
        if life := self._asks(claim, jobs.succeed, RESULT, again={End.SUCCEEDED}):
            life.end(End.SUCCEEDED, State.SUCCEEDED)

    @rule(claim=claims)
    def fail(self, claim: Claim) -> None:
        if life := self._asks(claim, jobs.fail, Diverged(), again={End.FAILED}):
            life.end(End.FAILED, State.FAILED)

    @rule(claim=claims)
    def acknowledge_a_cancel(self, claim: Claim) -> None:
        if life := self._asks(claim, jobs.acknowledge_cancel, again={End.CANCELLED}):
            life.end(End.CANCELLED, State.CANCELLED)

    @rule(claim=claims, pause=st.sampled_from([0, 0, 10]))
    def retry(self, claim: Claim, pause: int) -> None:
        again = {End.RETRIED, End.FAILED, End.CANCELLED}
        life = self._asks(claim, jobs.retry, Diverged(), again=again, after_seconds=pause)
        if life:
            life.failures += 1
            life.requeue(End.RETRIED, self.time + pause)

    @rule(claim=claims, pause=st.sampled_from([0, 0, 10]))
    def hand_back(self, claim: Claim, pause: int) -> None:
        again = {End.HANDED_BACK, End.CANCELLED}
        if life := self._asks(claim, jobs.hand_back, again=again, after_seconds=pause):
            life.requeue(End.HANDED_BACK, self.time + pause)

    # The reconciler.

    @rule(counts=st.booleans())
    def take_back_what_expired(self, counts: bool) -> None:
        gone = [each for each in self.model.values() if (each.lease or self.time) < self.time]
        for life in gone:
            life.failures += counts
            life.requeue(End.LEASE_EXPIRED, self.time)
        taken = jobs.requeue_expired(self.database, count_failure=counts)
        assert states(taken) == {life.id: life.state for life in gone}

    @rule()
    def fail_what_is_overdue(self) -> None:
        overdue = [
            life
            for life in self.model.values()
            if life.state == State.QUEUED
            and life.deadline is not None
            and life.deadline <= self.time
        ]
        for life in overdue:
            life.move(State.FAILED)
        failed = jobs.fail_overdue(self.database)
        assert states(failed) == {life.id: life.state for life in overdue}

    # What must always be so.

    @invariant()
    def the_database_says_what_the_model_says(self) -> None:
        with self.database.read() as connection:
            rows = connection.execute(select(tables.jobs)).all()
            ends = by_job(connection, tables.attempts, "attempt", "end")
            kept = by_job(connection, tables.checkpoints, "attempt", "iteration", *TOMBSTONES)
            past = by_job(connection, tables.transitions, "attempt", "before", "after")
        assert {row.id for row in rows} == set(self.model)
        for job in map(Job.from_row, rows):
            life = self.model[job.id]
            compare(job, life)
            assert sorted(ends[job.id]) == sorted(life.ends.items())
            assert sorted((*key, bool(at)) for *key, at in kept[job.id]) == sorted(
                (each.attempt, each.iteration, each.is_corrupt, each.is_tombstoned)
                for each in life.kept
            )
            assert past[job.id] == life.past
            # The model might be wrong about these as the code is.
            attempts, _, afters = zip(*past[job.id], strict=True)
            assert TERMINAL.isdisjoint(afters[:-1])
            assert list(attempts) == sorted(attempts)

    def _pass(self, seconds: int) -> None:
        self.time += seconds
        set_clock(self.database, self.time)

    def _is_live(self, claim: Claim) -> bool:
        life = self.model[claim.job_id]
        return life.state == State.RUNNING and life.claim_id == claim.claim_id

    def _asks(
        self,
        claim: Claim,
        ask: Callable[..., object],
        *what: object,
        again: frozenset[End] | set[End] = frozenset(),
        **how: object,
    ) -> Life | None:
        """The job, if the claim is still good; else the fence holds, or the end is a repetition."""
        life = self.model[claim.job_id]
        is_live = self._is_live(claim)
        is_fine = is_live or life.ends[claim.attempt] in again
        with contextlib.nullcontext() if is_fine else pytest.raises(LeaseLost):
            ask(self.database, claim, *what, **how)
        return life if is_live else None

    def _look_for_checkpoints(self, claim: Claim) -> list[Checkpoint]:
        found = jobs.checkpoints(self.database, claim.job_id)
        assert found == self.model[claim.job_id].found()
        return found


def test_jobs_live_as_the_model_says(clocked: Database) -> None:
    machine = type("Lives", (Lives,), {"database": clocked})

    run_state_machine_as_test(machine, settings=RUNS)


# The clock of the tests: what `now()` is compiled to is a row that only they move.


@pytest.fixture
def clocked(database_url: str) -> Iterator[Database]:
    """A database whose time passes only when a test says so."""
    element, real = clock._ClockPlus, (clock._postgresql, clock._sqlite)
    with database_at(database_url) as database:
        with database.write() as connection:
            connection.execute(text("CREATE TABLE dawn (at VARCHAR(40))"))
            connection.execute(text("INSERT INTO dawn VALUES ('')"))
        try:
            compiles(element, "postgresql")(_postgresql)
            compiles(element, "sqlite")(_sqlite)
            yield database
        finally:
            for dialect, compiled in zip(("postgresql", "sqlite"), real, strict=True):
                compiles(element, dialect)(compiled)


def set_clock(database: Database, time: int) -> None:
    at = DAWN + datetime.timedelta(seconds=time)
    with database.write() as connection:
        connection.execute(text("UPDATE dawn SET at = :at"), {"at": f"{at:%Y-%m-%d %H:%M:%S}"})


def _postgresql(element: Any, compiler: Any, **kwargs: Any) -> str:
    later = compiler.process(element.clauses, **kwargs)
    return f"((SELECT (at || '+00')::timestamptz FROM dawn) + make_interval(secs => {later}))"  # noqa: S608


def _sqlite(element: Any, compiler: Any, **kwargs: Any) -> str:
    later = compiler.process(element.clauses, **kwargs)
    return f"strftime('%Y-%m-%d %H:%M:%f000', (SELECT at FROM dawn), ({later}) || ' seconds')"  # noqa: S608


def by_job(connection: Connection, table: Table, *columns: str) -> dict[str, list[Any]]:
    """These columns of all rows in the order of their keys."""
    found: dict[str, list[Any]] = defaultdict(list)
    query = select(table.c.job_id, *(table.c[each] for each in columns))
    for job_id, *row in connection.execute(query.order_by(*table.primary_key)):
        found[job_id].append(tuple(row))
    return found


def compare(job: Job, life: Life) -> None:
    assert (job.state, job.attempt, job.claim_id) == (life.state, life.attempt, life.claim_id)
    assert (job.failures, job.iteration) == (life.failures, life.iteration)
    assert job.resumed_from_iteration == life.resumed
    assert bool(job.cancel_requested_at) == life.is_unwanted
    assert seconds(job.lease_expires_at) == life.lease
    assert seconds(job.available_at) == life.available
    assert bool(job.finished_at) == (life.state in TERMINAL)
    assert bool(job.error) == (life.state == State.FAILED)
    assert bool(job.result) == (life.state == State.SUCCEEDED)


def seconds(at: datetime.datetime | None) -> int | None:
    return None if at is None else round((at - DAWN).total_seconds())


def states(found: list[Job]) -> dict[str, State]:
    return {job.id: job.state for job in found}
