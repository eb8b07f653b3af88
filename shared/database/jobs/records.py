"""What is read of a job."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import Row

from ...states import End, Phase, State
from ..workers import Fleet


@dataclass(frozen=True)
class Job:
    """One row of the table `jobs`, as it was when it was read."""

    id: str
    owner_id: str
    version: int  # rises with each visible change: the ETag
    state: State
    spec: dict[str, Any]
    spec_digest: str  # names the picture that the spec asks for
    idempotency_key: str | None
    labels: dict[str, str]
    warnings: list[dict[str, str]]  # of `JobWarning`
    width: int  # of the canvas: renders of one size share a pass
    height: int
    priority: int  # higher is claimed first
    created_at: datetime.datetime
    available_at: datetime.datetime  # not claimed before: the pause before a retry
    deadline_at: datetime.datetime | None
    cancel_requested_at: datetime.datetime | None  # the job may yet end otherwise
    started_at: datetime.datetime | None  # of the first attempt
    finished_at: datetime.datetime | None
    attempt: int  # counts claims; only rises; orders the attempts
    failures: int  # counts what the job may be to blame for: the retry budget
    claim_id: str | None  # of the running attempt: the fence
    worker: str | None
    claimed_at: datetime.datetime | None
    lease_expires_at: datetime.datetime | None  # past it, the reconciler takes the job back
    phase: Phase | None
    iteration: int
    iterations: int
    it_per_s: float | None
    loss: dict[str, float] | None  # total, content, style, tv at `iteration`
    resumed_from_iteration: int
    error: dict[str, Any] | None  # a problem+json document
    result: dict[str, Any] | None  # keys, digest and size of what the job made
    expired_at: datetime.datetime | None  # retention: nobody follows its pointers any more

    @classmethod
    def from_row(cls, row: Row[Any]) -> Self:
        return cls(**row._mapping)

    @property
    def claim(self) -> "Claim":
        return Claim(self.id, self.attempt, self.claim_id or "")


@dataclass(frozen=True)
class JobWarning:
    """Something in a job that was accepted and may not give what its sender wants."""

    code: str  # stable, for programs
    field: str  # of the spec
    message: str  # for people


@dataclass(frozen=True)
class Claim:
    """The right of one attempt to write."""

    job_id: str
    attempt: int
    claim_id: str


@dataclass(frozen=True)
class Progress:
    """How far an attempt has come."""

    phase: Phase
    iteration: int = 0
    it_per_s: float | None = None
    loss: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A picture of the progress, already in the storage."""

    attempt: int
    iteration: int
    key: str
    created_at: datetime.datetime


@dataclass(frozen=True)
class Checkpoint:
    """The state of a render, already in the storage: what a later attempt begins with."""

    attempt: int
    iteration: int
    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Attempt:
    """One claim of a job, and how it ended."""

    attempt: int
    worker: str
    started_at: datetime.datetime
    ended_at: datetime.datetime | None
    end: End | None
    error: dict[str, Any] | None
    resumed_from_iteration: int


@dataclass(frozen=True)
class View:
    """A job and what hangs on it, read together."""

    job: Job
    snapshots: list[Snapshot]  # what the present attempt builds on, its own included
    attempts: list[Attempt]
    ahead: int  # how many queued jobs will be claimed before this one
    fleet: Fleet | None  # who may claim it; None unless it is queued
    at: datetime.datetime  # the database's clock
