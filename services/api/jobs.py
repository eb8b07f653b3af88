"""Jobs: submitted, followed, cancelled, and what they made."""

from urllib.parse import urlencode

import structlog
from apiflask import APIBlueprint
from flask import Response

from impasto.shared import object_keys
from impasto.shared.database import jobs as table
from impasto.shared.database.jobs import Job
from impasto.shared.errors import (
    AssetNotFound,
    BodyTooLarge,
    IdempotencyConflict,
    InvalidImage,
    InvalidRequest,
    InvalidSpec,
    JobNotFound,
    MalformedRequest,
    NotFinished,
    ResultExpired,
    SnapshotNotFound,
    UnsupportedMediaType,
)
from impasto.shared.states import TERMINAL

from .. import submission
from ..schemas import (
    JobDocument,
    JobPage,
    JobSummary,
    Located,
    Manifest,
    Tagged,
    job_url,
)
from . import bodies, objects, openapi
from .connections import connections
from .inputs import JobFilters, SubmitHeaders

_log = structlog.get_logger(__name__)

jobs = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", tag="Jobs")


@jobs.post("")
@jobs.input(SubmitHeaders, location="headers")
@jobs.output(JobDocument, status_code=202, description="The job is queued.", headers=Located)
@jobs.doc(
    responses={200: openapi.document(JobDocument, "The job that this key made.", headers=Located)}
    | openapi.refusals(
        MalformedRequest,
        AssetNotFound,
        IdempotencyConflict,
        BodyTooLarge,
        UnsupportedMediaType,
        InvalidSpec,
        InvalidImage,
        InvalidRequest,
    ),
    extensions={"requestBody": bodies.ORDER_BODY},
)
def submit(headers_data: SubmitHeaders) -> tuple[JobDocument, int, dict[str, str]]:
    """Submit a job.

    As JSON with the ids of uploaded pictures, or as a form that carries the pictures themselves:
    `curl -F content=@photo.jpg -F style=@painting.jpg -F 'spec={"size": 512}' .../v1/jobs`
    """
    here = connections()
    job, is_new = submission.submit(
        here.database,
        here.storage,
        here.wakeups,
        bodies.order(),
        inspections=here.inspections,
        idempotency_key=headers_data.idempotency_key or None,
    )
    document = _accepted(job) if is_new else _document(job.id)
    return document, 202 if is_new else 200, {"Location": job_url(job.id)}


@jobs.get("")
@jobs.input(JobFilters, location="query")
@jobs.output(JobPage, description="A page of jobs.")
@jobs.doc(responses=openapi.refusals(InvalidRequest, JobNotFound))
def listing(query_data: JobFilters) -> JobPage:
    """List jobs, the newest first.

    `next` leads to the page of older ones, with the same filters.
    """
    found = table.list_jobs(
        connections().database,
        states=query_data.status,
        labels=query_data.labels(),
        before=query_data.before or None,
        limit=query_data.limit + 1,  # the one more tells whether there is another page
    )
    page = found[: query_data.limit]
    following = _following(query_data, page[-1]) if len(found) > len(page) else None
    return JobPage(jobs=[JobSummary.of(job) for job in page], next=following)


@jobs.get("/<job_id>")
@jobs.output(JobDocument, description="The job as it is now.", headers=Tagged)
@jobs.doc(responses=openapi.NOT_MODIFIED | openapi.refusals(JobNotFound))
def show(job_id: str) -> tuple[JobDocument, int, dict[str, str]]:
    """Tell a job's status.

    Its ETag is the job's version (while it is queued also its place and why it waits), so asking
    again with If-None-Match costs next to nothing until something has changed. It is answered at
    once: `Prefer: wait` (RFC 7240) is not honoured here.
    """
    document = _document(job_id)
    return document, 200, {"ETag": f'"{document.etag}"'}


@jobs.post("/<job_id>/cancel")
@jobs.output(JobDocument, status_code=202, description="Its worker will stop within moments.")
@jobs.doc(
    responses={200: openapi.document(JobDocument, "It has ended.")} | openapi.refusals(JobNotFound)
)
def cancel(job_id: str) -> tuple[JobDocument, int]:
    """Cancel a job.

    One that waits is cancelled at once, one that is rendered by its worker; one that has ended
    stays as it is.
    """
    table.request_cancel(connections().database, job_id)
    document = _document(job_id)
    return document, 200 if document.status in TERMINAL else 202


@jobs.get("/<job_id>/result")
@jobs.doc(
    responses={200: openapi.file("The picture, in the spec's format.", *object_keys.SUFFIXES)}
    | openapi.NOT_MODIFIED
    | openapi.refusals(JobNotFound, NotFinished, ResultExpired)
)
def result(job_id: str) -> Response:
    """Download the result.

    In the format that the spec asked for.
    """
    made = _finished(job_id).result or {}
    return objects.stream(
        made["key"],
        media_type=made["media_type"],
        filename=f"impasto-{job_id}{object_keys.SUFFIXES[made['media_type']]}",
        etag=made["sha256"],
        size_bytes=made["size_bytes"],
    )


@jobs.get("/<job_id>/losses")
@jobs.doc(
    responses={200: openapi.text("A line for each iteration, after a header.", "text/csv")}
    | openapi.NOT_MODIFIED
    | openapi.refusals(JobNotFound, NotFinished, ResultExpired)
)
def losses(job_id: str) -> Response:
    """Download the history of the losses.

    A table as CSV: a line for each iteration, with the size it was at.

    `total` is the sum of content, style and tv, each with its weight, which the line tells, too: it
    may be another at each size. By `strength` content and style are shares, 0 as the one input and
    1 as the other. An iteration may try a picture that is worse than the one before and is not
    kept: the result's loss is the least of the last `level`.
    """
    key = (_finished(job_id).result or {})["losses_key"]
    return _stream(key, "text/csv; charset=utf-8", f"impasto-{job_id}-losses.csv")


@jobs.get("/<job_id>/manifest")
@jobs.doc(
    responses={200: openapi.document(Manifest, "How the picture came to be.")}
    | openapi.NOT_MODIFIED
    | openapi.refusals(JobNotFound, NotFinished, ResultExpired)
)
def manifest(job_id: str) -> Response:
    """Download the manifest.

    What the picture was made of, by what, and how: enough to make it again.
    """
    key = (_finished(job_id).result or {})["manifest_key"]
    return _stream(key, "application/json", f"impasto-{job_id}.json")


@jobs.get("/<job_id>/snapshots/<int:iteration>")
@jobs.doc(
    responses={
        200: openapi.file("The picture after so many iterations.", "image/jpeg", "image/png")
    }
    | openapi.NOT_MODIFIED
    | openapi.refusals(JobNotFound, SnapshotNotFound, ResultExpired)
)
def snapshot(job_id: str, iteration: int) -> Response:
    """Download a picture of the progress.

    The job's `snapshots` tell of which iterations there are any. In the spec's `snapshot_format`.
    """
    view = table.view(connections().database, job_id)
    _check_kept(view.job)
    taken = {snapshot.iteration: snapshot.key for snapshot in view.snapshots}
    if iteration not in taken:
        raise SnapshotNotFound(f"job {job_id} has no snapshot of iteration {iteration}")
    # Another attempt may yet take its own.
    is_final = view.job.state in TERMINAL
    kind = object_keys.media_type(taken[iteration])
    name = f"impasto-{job_id}-{iteration:06d}{object_keys.SUFFIXES[kind]}"
    return _stream(taken[iteration], kind, name, is_final=is_final)


def _accepted(job: Job) -> JobDocument:
    """The document of a job that is committed: whatever goes wrong now, it is an answer."""
    try:
        return _document(job.id)
    except Exception as error:
        _log.warning("accepted_and_not_seen", job=job.id, error=str(error))
        return JobDocument.of_new(job)


def _document(job_id: str) -> JobDocument:
    return JobDocument.of_view(table.view(connections().database, job_id))


def _finished(job_id: str) -> Job:
    job = table.get(connections().database, job_id)
    _check_kept(job)
    if not job.result:
        raise NotFinished(f"the job is {job.state.value}; it has no result")
    return job


def _check_kept(job: Job) -> None:
    if job.expired_at:
        raise ResultExpired(f"what job {job.id} made was deleted on {job.expired_at:%Y-%m-%d}")


def _stream(key: str, media_type: str, filename: str, *, is_final: bool = True) -> Response:
    # Objects are never overwritten: a key stands for its bytes.
    etag = object_keys.digest(key.encode())
    return objects.stream(
        key, media_type=media_type, filename=filename, etag=etag, is_final=is_final
    )


def _following(filters: JobFilters, last: Job) -> str:
    query = filters.model_dump(mode="json", exclude_defaults=True) | {"before": last.id}
    return f"/v1/jobs?{urlencode(query, doseq=True)}"
