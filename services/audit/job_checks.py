"""What must be true of a job's life; each function yields, in words, where it is not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import Row

from impasto.shared import object_keys
from impasto.shared.errors import Unavailable
from impasto.shared.states import MOVES, TERMINAL, End, State

from .history import History

_CANCEL_SECONDS = 5  # on top of a lease and a reconcile interval

# The ends of attempts that end the job, too.
_FINAL = {
    End.SUCCEEDED: State.SUCCEEDED,
    End.FAILED: State.FAILED,
    End.CANCELLED: State.CANCELLED,
}
# Those that may have counted as a failure; a cancel may have come in between.
_COUNTED = {End.FAILED, End.RETRIED, End.LEASE_EXPIRED, End.CANCELLED}


@dataclass(frozen=True)
class Bounds:
    """What the promises depend on, in seconds."""

    lease_seconds: float = 60
    reconcile_seconds: float = 5
    orphan_seconds: float = 86400  # how long an object that no row names may lie
    forget_seconds: float = 86400  # how long a worker that is gone is listed
    slack_seconds: float = 3600  # how long the reconciler may take to delete what it may

    @property
    def cancel(self) -> timedelta:
        return timedelta(seconds=self.lease_seconds + self.reconcile_seconds + _CANCEL_SECONDS)

    @property
    def forgotten(self) -> timedelta:
        return timedelta(seconds=self.forget_seconds + self.slack_seconds)

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.orphan_seconds + self.slack_seconds)


def has_legal_history(history: History, _: Bounds) -> Iterator[str]:
    """Every accepted job has one unbroken history of legal moves."""
    job, moves = history.job, history.transitions
    if not moves or moves[0].before:
        yield "its history has no beginning"
    for move in moves[1:]:
        if move.after not in MOVES[move.before]:
            yield f"it went from {move.before} to {move.after}"
    for one, other in pairwise(moves):
        if one.after != other.before:
            yield f"it was {one.after}, and then {other.before}"
    if moves and moves[-1].after != job.state:
        yield f"it is {job.state}, its history ends with {moves[-1].after}"
    if bool(job.finished_at) != (job.state in TERMINAL):
        yield f"it is {job.state}, and was finished at {job.finished_at}"


def ends_once(history: History, _: Bounds) -> Iterator[str]:
    """A job that has ended did so once, and by its last attempt."""
    job = history.job
    ended = sum(move.after in TERMINAL for move in history.transitions)
    if ended != (job.state in TERMINAL):
        yield f"it is {job.state}, and ended {ended} times"
    for attempt in history.attempts:
        final = _FINAL.get(attempt.end)
        if final and (final != job.state or attempt.attempt != job.attempt):
            yield f"its attempt {attempt.attempt} {final}, the job is {job.state} by {job.attempt}"
    if job.state == State.SUCCEEDED and End.SUCCEEDED not in [a.end for a in history.attempts]:
        yield "it succeeded by no attempt"


def has_one_lease(history: History, _: Bounds) -> Iterator[str]:
    """A running job has one attempt that is not over, and others none; numbers only rise."""
    job, attempts = history.job, history.attempts
    if [each.attempt for each in attempts] != list(range(1, job.attempt + 1)):
        yield f"its attempts are {[each.attempt for each in attempts]}, the last is {job.attempt}"
    live = [each.claim_id for each in attempts if each.ended_at is None]
    expected = [job.claim_id] if job.state == State.RUNNING else []
    if live != expected:
        yield f"it is {job.state}, and has {len(live)} attempts that are not over"
    if bool(job.lease_expires_at) != (job.state == State.RUNNING):
        yield f"it is {job.state}, its lease ends at {job.lease_expires_at}"
    for one, other in pairwise(attempts):
        if one.ended_at and other.started_at < one.ended_at:
            yield f"attempt {other.attempt} began before {one.attempt} was over"
    for before, after in pairwise(history.transitions):
        if after.attempt < before.attempt:
            yield f"its attempt fell from {before.attempt} to {after.attempt}"


def pointers_are_of_their_claims(history: History, _: Bounds) -> Iterator[str]:
    """Each pointer was written by an attempt while it had the job, and leads into its folder."""
    job = history.job
    by_number = {each.attempt: each for each in history.attempts}
    for row in (*history.snapshots, *history.checkpoints):
        attempt = by_number.get(row.attempt)
        if attempt is None or row.claim_id != attempt.claim_id:
            yield f"{row.key} was written by no claim of it"
        elif not _is_below(row.key, attempt):
            yield f"{row.key} is not in the folder of attempt {row.attempt}"
        elif row.created_at < attempt.started_at or (
            attempt.ended_at and row.created_at > attempt.ended_at
        ):
            yield f"{row.key} was written when attempt {row.attempt} was not running"
    last = by_number.get(job.attempt)
    for key in sorted(object_keys.keys_of_result(job.result)):
        if last is None or last.claim_id != job.claim_id or not _is_below(key, last):
            yield f"{key} is not in the folder of the last attempt"


def goes_on(history: History, _: Bounds) -> Iterator[str]:
    """Within an attempt iterations rise; the next one goes on behind the last checkpoint."""
    job = history.job
    if not job.resumed_from_iteration <= job.iteration <= job.iterations:
        yield (
            f"it is at iteration {job.iteration} of {job.iterations},"
            f" resumed from {job.resumed_from_iteration}"
        )
    for attempt in history.attempts:
        made = []
        for rows in (history.snapshots, history.checkpoints):
            iterations = [row.iteration for row in rows if row.attempt == attempt.attempt]
            if iterations != sorted(iterations):
                yield f"attempt {attempt.attempt} went back: {iterations}"
            made += iterations
        start = attempt.resumed_from_iteration
        if made and min(made) < start:
            yield f"attempt {attempt.attempt} resumed from {start}, and made {min(made)} again"
        reachable = _reachable(history, attempt)
        if (made or attempt.end == End.SUCCEEDED) and start < reachable:
            yield f"attempt {attempt.attempt} began at {start}, a checkpoint was at {reachable}"


def cancel_is_honoured(history: History, bounds: Bounds) -> Iterator[str]:
    """A cancel request ends the job in time, or success wins."""
    job = history.job
    if job.cancel_requested_at:
        took = (job.finished_at or history.at) - job.cancel_requested_at
        if took > bounds.cancel:
            yield f"its cancel was requested {took.total_seconds():.0f} s before it ended, or ends"


def fails_by_itself(history: History, _: Bounds) -> Iterator[str]:
    """What failed was the job, not what it depends on; nor was a hand-back counted."""
    job, outages = history.job, _codes(Unavailable)
    if (job.error or {}).get("code") in outages:
        yield f"it failed with {(job.error or {})['code']}"
    for attempt in history.attempts:
        if attempt.end in _COUNTED and (attempt.error or {}).get("code") in outages:
            yield f"attempt {attempt.attempt} failed with {attempt.error['code']}"
    counted = sum(attempt.end in _COUNTED for attempt in history.attempts)
    if job.failures > counted:
        yield f"{job.failures} failures were counted, {counted} attempts failed"


LIVES: dict[str, Callable[[History, Bounds], Iterator[str]]] = {
    "I1": has_legal_history,
    "I2": ends_once,
    "I3": has_one_lease,
    "I4": pointers_are_of_their_claims,
    "I6": goes_on,
    "I8": cancel_is_honoured,
    "I9": fails_by_itself,
}


def _is_below(key: str, attempt: Row[Any]) -> bool:
    return key.startswith(
        f"{object_keys.attempt(attempt.job_id, attempt.attempt, attempt.claim_id)}/"
    )


def _reachable(history: History, attempt: Row[Any]) -> int:
    """The furthest iteration that the attempt could have resumed from when it began."""
    return max(
        (
            each.iteration
            for each in history.checkpoints
            if each.attempt < attempt.attempt
            and not each.is_corrupt
            and (each.tombstoned_at is None or each.tombstoned_at > attempt.started_at)
        ),
        default=0,
    )


def _codes(error: type[Unavailable]) -> set[str]:
    return {error.code}.union(*(_codes(kind) for kind in error.__subclasses__()))
