"""The documents that clients see. One status document, wherever a job's status is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from impasto.shared.database.assets import Asset
from impasto.shared.database.jobs import Attempt, Job, Snapshot, View
from impasto.shared.object_keys import digest
from impasto.shared.spec import JobSpec
from impasto.shared.states import End, Phase, State

from .waiting import why_not


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class As:
    """Marks JSON that is passed on as it was stored: what it is like, a model says.

    It is not read again: a spec of yesterday may be refused by the bounds of today.
    """

    model: type[BaseModel]

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self.model.__pydantic_core_schema__)


class Refusal(_Document):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: a field of the spec, a parameter, a header.")
    value: Any = Field(description="What came, shortened if it was long.")
    accepted: str


class Problem(_Document):
    """Why a request was not served, or why a job failed (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str = Field(description="For people.")
    errors: list[Refusal] = Field(default=[], description="All that is wrong, field by field.")


Spec = Annotated[dict[str, Any], As(JobSpec)]
Error = Annotated[dict[str, Any], As(Problem)]


class AssetDocument(_Document):
    """An uploaded picture."""

    id: str = Field(description="The SHA-256 of the bytes, in hex; what a spec refers to.")
    media_type: str
    width: int = Field(description="In px, as it is shown: EXIF orientation applied.")
    height: int
    size_bytes: int
    warnings: list[str] = Field(
        description="What the file says of its colours that is not supported."
    )
    created_at: datetime

    @classmethod
    def of(cls, asset: Asset) -> Self:
        return cls.model_validate(asset, from_attributes=True)


class Times(_Document):
    created_at: datetime
    started_at: datetime | None = Field(description="When the first attempt began.")
    finished_at: datetime | None
    deadline_at: datetime | None
    cancel_requested_at: datetime | None
    expired_at: datetime | None = Field(description="When what the job made was deleted.")


class Queue(_Document):
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


class ProgressDocument(_Document):
    fraction: float = Field(description="0 to 1.")
    iteration: int
    iterations: int
    it_per_s: float | None


class LossDocument(_Document):
    """At `progress.iteration`: the total, and its parts before their factors."""

    total: float
    content: float
    style: float
    tv: float


class SnapshotDocument(_Document):
    iteration: int
    url: str
    created_at: datetime


class AttemptEnd(_Document):
    n: int
    worker: str
    started_at: datetime
    ended_at: datetime
    end: End
    error: Error | None


class AttemptDocument(_Document):
    n: int = Field(description="How often the job was claimed; 0 before the first time.")
    worker: str | None
    failures: int
    resumed_from_iteration: int
    previous: list[AttemptEnd]


class ResultDocument(_Document):
    url: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str


class Links(_Document):
    self: str
    result: str | None
    losses: str | None
    manifest: str | None


class JobWarning(_Document):
    """Something in a job that was accepted and may not give what its sender wants."""

    code: str = Field(description="Stable, for programs.")
    field: str = Field(description="Of the spec.")
    message: str = Field(description="For people.")


class JobSummary(_Document):
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


class ManifestWeights(_Document):
    """The network's weights."""

    name: str
    sha256: str


class EffectiveWeights(_Document):
    """What was weighed at the last size, by the names and in the units of a spec.

    Beside a strength, what it came to for this pair.
    """

    content_weight: float
    style_weight: float
    tv_weight: float
    content_layers: dict[str, float]
    style_layers: dict[str, float]


class ManifestResult(_Document):
    """The picture."""

    sha256: str
    width: int
    height: int
    media_type: str


class ManifestAttempt(_Document):
    """An attempt, as it stood when the manifest was written."""

    n: int
    resumed_from_iteration: int
    end: End | None = Field(description="None of the attempt that wrote the manifest.")


class Manifest(_Document):
    """How a picture came to be; its spec, run again, gives the same one."""

    job: str
    spec: Spec
    spec_digest: str
    inputs: list[str] = Field(description="The pictures' ids.")
    weights: ManifestWeights
    effective: EffectiveWeights
    seed: int
    iterations: int
    best_iteration: int = Field(description="Of the picture: the best at the last size.")
    losses: LossDocument = Field(description="Of the picture.")
    result: ManifestResult
    attempt: int
    failures: int
    attempts: list[ManifestAttempt]
    resumed_from_iteration: int
    continuation: str = Field(description="exact, or approximate where the machine changed.")
    device: str
    precision: str
    threads: int
    platform: str
    versions: dict[str, str | int]
    times: dict[str, datetime]


class JobPage(_Document):
    """Some of the jobs, the newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="The address of the next page, if there is one.")


class Located(_Document):
    """Headers of an answer that tells of one thing."""

    location: str = Field(alias="Location", description="The URL of the resource.")


class Tagged(_Document):
    """Headers of an answer that may be asked for again."""

    etag: str = Field(alias="ETag", description="For If-None-Match.")


class Liveness(_Document):
    """The process lives."""

    status: Literal["ok"] = "ok"


class Workers(_Document):
    """Who renders."""

    alive: int = Field(description="How many sent a heartbeat in time.")
    ready: int = Field(description="How many of these take jobs when a slot of theirs is free.")


class Readiness(_Document):
    """Whether requests can be served, and by what."""

    status: Literal["ready"] = "ready"
    database: str
    storage: str
    broker: str = Field(description="Without it jobs start later: idle workers poll.")
    workers: Workers = Field(description="Jobs are accepted without any, and wait.")


class Index(_Document):
    """What there is at this address."""

    name: str
    version: str
    links: dict[str, str]


def job_url(job_id: str) -> str:
    return f"/v1/jobs/{job_id}"


def asset_url(asset_id: str) -> str:
    return f"/v1/assets/{asset_id}"


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
