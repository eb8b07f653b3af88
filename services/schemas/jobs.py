"""A job: one status document, wherever its status is told."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from impasto.shared.database.jobs import Attempt, Job, Snapshot, View
from impasto.shared.object_keys import digest
from impasto.shared.states import End, Phase, State

from ..waiting import why_not
from .base import Document, Error, Spec


class Times(Document):
    created_at: datetime
    started_at: datetime | None = Field(description="When the first attempt began.")
    finished_at: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    expired_at: datetime | None = Field(description="When what the job made was deleted.")


class Queue(Document):
    """Where a queued job stands."""

    position: int = Field(description="1 is next.")
    runnable: bool = Field(
        description="Whether a live worker may claim it now, after those before it: it is"
        " not waiting for another try, and a worker that is ready has a free slot."
    )
    code: str | None = Field(
        description="Why not, for programs: paused, overdue, no_worker, starting, busy, too_large,"
        " draining, or what keeps the workers from being ready, as storage_full."
    )
    why_not: str | None = Field(
        description="The same for people; it changes only when what it says does."
    )


class ProgressDocument(Document):
    fraction: float = Field(description="0 to 1.")
    iteration: int
    iterations: int
    it_per_s: float | None


class LossDocument(Document):
    """At `progress.iteration`: the total, and its parts before their factors."""

    total: float
    content: float
    style: float
    tv: float


class SnapshotDocument(Document):
    iteration: int
    url: str
    created_at: datetime


class AttemptEnd(Document):
    n: int
    worker: str
    started_at: datetime
    ended_at: datetime
    end: End
    error: Error | None


class AttemptDocument(Document):
    n: int = Field(description="How often the job was claimed; 0 before the first time.")
    worker: str | None
    failures: int
    resumed_from_iteration: int
    previous: list[AttemptEnd]


class ResultDocument(Document):
    url: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str


class Links(Document):
    self: str
    result: str | None
    losses: str | None
    manifest: str | None


class JobWarning(Document):
    """Something in a job that was accepted and may not give what its sender wants."""

    code: str = Field(description="Stable, for programs.")
    field: str = Field(description="Of the spec.")
    message: str = Field(description="For people.")


class JobSummary(Document):
    """A job in a list."""

    id: str
    version: int = Field(description="Increases with each visible change.")
    status: State
    phase: Phase | None
    labels: dict[str, str]
    times: Times
    progress: ProgressDocument
    eta_seconds: float | None = Field(description="Until the last iteration, at the present pace.")
    loss: LossDocument | None = Field(
        description="Of the picture so far: the best at the size that is rendered."
    )
    error: Error | None = Field(description="Why it failed.")
    links: Links

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(**_summary(job))


class JobDocument(JobSummary):
    """A job's status: the same from the API, the Python client and the command line."""

    spec: Spec = Field(description="What was asked for, with all defaults filled in.")
    spec_digest: str = Field(description="Equal for specs that ask for the same picture.")
    warnings: list[JobWarning]
    queue: Queue | None
    preview: str | None = Field(description="The newest picture that there is.")
    snapshots: list[SnapshotDocument]
    attempt: AttemptDocument
    result: ResultDocument | None

    @property
    def etag(self) -> str:
        """The version; in the queue also what moves without the job: its place, why it waits."""
        if self.queue is None:
            return f"{self.version}"
        why_not = digest((self.queue.why_not or "").encode())[:8]
        return f"{self.version}.{self.queue.position}.{why_not}"

    @classmethod
    def of_view(cls, view: View) -> Self:
        job = view.job
        kept = [] if job.expired_at else view.snapshots
        taken = [_snapshot(job, snapshot) for snapshot in kept]
        result = _result(job)
        newest = result or (taken[-1] if taken else None)
        return cls(
            **_summary(job),
            spec=job.spec,
            spec_digest=job.spec_digest,
            warnings=[JobWarning(**warning) for warning in job.warnings],
            queue=_queue(view),
            preview=newest.url if newest else None,
            snapshots=taken,
            attempt=_attempt(job, view.attempts),
            result=result,
        )

    @classmethod
    def of_new(cls, job: Job) -> Self:
        """A job that was just queued, by its row alone: nobody could look for its place."""
        return cls(
            **_summary(job),
            spec=job.spec,
            spec_digest=job.spec_digest,
            warnings=[JobWarning(**warning) for warning in job.warnings],
            queue=None,
            preview=None,
            snapshots=[],
            attempt=_attempt(job, []),
            result=None,
        )


class JobPage(Document):
    """Some of the jobs, the newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="The address of the next page, if there is one.")


def job_url(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


def _summary(job: Job) -> dict[str, Any]:
    url = job_url(job.id)
    made = job.result and not job.expired_at
    left = job.iterations - job.iteration
    is_done = job.state == State.SUCCEEDED  # it may have had the patience for fewer iterations
    is_rendering = job.state == State.RUNNING and job.it_per_s
    return {
        "id": job.id,
        "version": job.version,
        "status": job.state,
        "phase": job.phase,
        "labels": job.labels,
        "times": Times.model_validate(job, from_attributes=True),
        "progress": ProgressDocument(
            fraction=1.0 if is_done else job.iteration / job.iterations,
            iteration=job.iteration,
            iterations=job.iterations,
            it_per_s=job.it_per_s,
        ),
        "eta_seconds": left / job.it_per_s if is_rendering and job.it_per_s else None,
        "loss": LossDocument(**job.loss) if job.loss else None,
        "error": job.error,
        "links": Links(
            self=url,
            result=f"{url}/result" if made else None,
            losses=f"{url}/losses" if made else None,
            manifest=f"{url}/manifest" if made else None,
        ),
    }


def _queue(view: View) -> Queue | None:
    job = view.job
    if view.fleet is None:  # it does not wait
        return None
    reason = why_not(job, view.fleet, view.at)
    return Queue(
        position=view.ahead + 1,
        runnable=reason is None,
        code=reason.code if reason else None,
        why_not=reason.detail if reason else None,
    )


def _snapshot(job: Job, snapshot: Snapshot) -> SnapshotDocument:
    return SnapshotDocument(
        iteration=snapshot.iteration,
        url=f"{job_url(job.id)}/snapshots/{snapshot.iteration}",
        created_at=snapshot.created_at,
    )


def _attempt(job: Job, attempts: Sequence[Attempt]) -> AttemptDocument:
    return AttemptDocument(
        n=job.attempt,
        worker=job.worker,
        failures=job.failures,
        resumed_from_iteration=job.resumed_from_iteration,
        previous=[
            AttemptEnd(
                n=attempt.attempt,
                worker=attempt.worker,
                started_at=attempt.started_at,
                ended_at=attempt.ended_at,
                end=attempt.end,
                error=attempt.error,
            )
            for attempt in attempts
            if attempt.ended_at and attempt.end
        ],
    )


def _result(job: Job) -> ResultDocument | None:
    if not job.result or job.expired_at:
        return None
    return ResultDocument(
        url=f"{job_url(job.id)}/result",
        **{name: job.result[name] for name in ResultDocument.model_fields if name != "url"},
    )
