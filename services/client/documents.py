"""The documents that the API sends, as the client reads them.

A newer server may send more: what is not named here is kept, and stands in `model_dump()`.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from impasto.shared.states import TERMINAL, State


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Index(_Document):
    """What stands at a server's root."""

    name: str
    version: str


class Times(_Document):
    created_at: datetime
    started_at: datetime | None = None  # when the first attempt began
    finished_at: datetime | None = None
    deadline_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    expired_at: datetime | None = None  # when what the job made was deleted


class Progress(_Document):
    fraction: float  # 0 to 1
    iteration: int
    iterations: int
    it_per_s: float | None = None


class Loss(_Document):
    """At `progress.iteration`: the total, and its parts before their factors."""

    total: float
    content: float
    style: float
    tv: float = 0.0


class Queue(_Document):
    position: int  # 1 is next
    runnable: bool  # whether a worker that is alive may take it now
    code: str | None = None  # why not, for programs: of `impasto.shared.states.Wait`, or an error's
    why_not: str | None = None


class Snapshot(_Document):
    iteration: int
    url: str


class AttemptEnd(_Document):
    n: int
    worker: str
    end: str  # succeeded, failed, cancelled, handed_back, lease_expired or retried
    error: dict[str, Any] | None = None  # problem+json


class Attempt(_Document):
    n: int  # how often a worker has taken the job; 0 before the first
    worker: str | None = None
    failures: int = 0  # what counts against the retry budget
    resumed_from_iteration: int = 0
    previous: list[AttemptEnd] = []


class Result(_Document):
    url: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    sha256: str


class JobSummary(_Document):
    """A job in a list."""

    id: str
    version: int  # rises with each visible change
    status: State
    phase: str | None = None
    labels: dict[str, str] = {}
    times: Times
    progress: Progress
    eta_seconds: float | None = None
    loss: Loss | None = None
    error: dict[str, Any] | None = None  # problem+json

    @property
    def is_over(self) -> bool:
        return self.status in TERMINAL


class JobWarning(_Document):
    """Something in a job that was accepted and may not give what its sender wants."""

    code: str
    field: str  # of the spec
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class JobDocument(JobSummary):
    """A job's status."""

    spec: dict[str, Any]
    spec_digest: str
    warnings: list[JobWarning] = []
    queue: Queue | None = None
    preview: str | None = None  # the address of the newest picture that there is
    snapshots: list[Snapshot] = []
    attempt: Attempt
    result: Result | None = None


class JobPage(_Document):
    jobs: list[JobSummary]
    next: str | None = None  # the address of the next page
