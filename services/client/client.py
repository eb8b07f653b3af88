"""The service as Python objects: a `Client` for the server, a `Job` for each picture."""

import dataclasses
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from impasto.shared.errors import (
    AssetNotFound,
    Cancelled,
    ImpastoError,
    InvalidImage,
    InvalidRequest,
    Violation,
)
from impasto.shared.object_keys import digest
from impasto.shared.spec import JobSpec
from impasto.shared.states import State, Wait
from impasto.shared.violations import presentable

from . import files
from .connection import Backoff, Connection, read
from .documents import Index, JobDocument, JobPage, JobSummary
from .errors import ApiError, JobFailed, NotServed, Unreachable
from .orders import Order, Picture, Styles

DEFAULT_URL = "http://127.0.0.1:7777"
PATIENT = Backoff()
POLL_FIRST_SECONDS = 0.25  # a worker writes its progress about as often
POLL_LONGEST_SECONDS = 3.0
# What a queued job waits for and will get; for anything else somebody has to do something.
_PASSES = {None, Wait.PAUSED, Wait.OVERDUE, Wait.STARTING, Wait.BUSY, Wait.TOO_LARGE}
WATCH_PATIENCE_SECONDS = 60.0  # a job goes on while its server is restarted, and so do we
_JOB_ID = r"[0-9A-Za-z_-]{1,64}"  # of any server's version; nothing that leaves /v1/jobs


class Client:
    """A server; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_seconds: float = 30.0,
        backoff: Backoff = PATIENT,
        watch_seconds: float = WATCH_PATIENCE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        chance: random.Random | None = None,
        stuck_seconds: float | None = None,
    ) -> None:
        """timeout_seconds: of each request.
        backoff: how often a server that does not answer is asked again.
        watch_seconds: for how long it is asked again while a job is watched.
        stuck_seconds: a job for which there is no worker that is alive and could do it is cancelled
        after so long, and whoever watches it gets NotServed; None: it waits until there is one.
        Raises InvalidSetting unless url is an http address.
        """
        self._connection = Connection(
            url, timeout_seconds=timeout_seconds, backoff=backoff, sleep=sleep, chance=chance
        )
        self._watch_seconds = watch_seconds
        self._stuck_seconds = stuck_seconds
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def answers(self) -> bool:
        """Whether Impasto is there; asked once, without patience."""
        once = Backoff(patience_seconds=0)
        try:
            answer = self._connection.send("GET", "/", backoff=once, timeout=5)
            return read(Index, answer).name == "Impasto"
        except (Unreachable, ApiError):
            return False

    def render(
        self,
        content: Picture,
        styles: Styles,
        *,
        masks: Iterable[Picture | None] = (),
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> "Job":
        """A new job; pictures that the server does not know yet are uploaded first.

        masks: where each style applies, in their order; None, or none left: everywhere.
        fields: the other fields of `JobSpec`; init_asset is a picture here.
        Raises OSError if a file cannot be read and InvalidSpec, both before anything is sent.
        """
        order = Order.of(content, styles, masks=masks, **fields)
        return self.place(order, idempotency_key=idempotency_key)

    def place(self, order: Order, *, idempotency_key: str | None = None) -> "Job":
        """A new job, after its pictures are uploaded.

        A refusal names the files.
        """
        for file in order.files.values():
            self.upload(file.data, name=file.name)
        try:
            return self.submit(order.spec, idempotency_key=idempotency_key)
        except ApiError as error:
            raise error.naming(order.names()) from None

    def upload(self, picture: bytes, *, name: str = "picture") -> str:
        """The picture's asset id; its bytes travel only if the server does not know them.

        name: what a refusal calls it.
        """
        asset_id = digest(picture)
        try:
            self._connection.send("GET", f"/v1/assets/{asset_id}")
        except ApiError as error:
            if error.code != AssetNotFound.code:
                raise
            self._send_picture(picture, name)
        return asset_id

    def submit(self, spec: JobSpec, *, idempotency_key: str | None = None) -> "Job":
        """A new job, of pictures that are uploaded already.

        With a key that was used for the same spec before, it is the job of that time.
        """
        answer = self._connection.send(
            "POST",
            "/v1/jobs",
            json=spec.model_dump(mode="json"),
            headers={"Idempotency-Key": idempotency_key or secrets.token_hex(16)},
        )
        return self.job(read(JobDocument, answer).id)

    def job(self, job_id: str) -> "Job":
        """The job with an id. Raises InvalidRequest for what can be no id; asks nobody."""
        if not re.fullmatch(_JOB_ID, job_id):
            accepted = "a job's id, as a submit and the list of jobs give it"
            raise InvalidRequest(violations=[Violation("job", presentable(job_id), accepted)])
        return Job(
            self._connection,
            job_id,
            watch_seconds=self._watch_seconds,
            stuck_seconds=self._stuck_seconds,
        )

    def jobs(
        self, *, status: Iterable[State] = (), labels: Mapping[str, str] | None = None
    ) -> Iterator[JobSummary]:
        """The newest jobs first; further pages are fetched as they are reached.

        status: any of these. labels: all of these.
        """
        filters = [("status", str(state)) for state in status]
        filters += [("label", f"{name}:{value}") for name, value in (labels or {}).items()]
        answer = self._connection.send("GET", "/v1/jobs", params=filters)
        while True:
            page = read(JobPage, answer)
            yield from page.jobs
            if page.next is None:
                return
            answer = self._connection.send("GET", page.next)

    def _send_picture(self, picture: bytes, name: str) -> None:
        try:
            self._connection.send("POST", "/v1/assets", files={"file": picture})
        except ApiError as error:
            if error.code == InvalidImage.code:
                raise error.about(name) from None
            raise


class Job:
    """A job on the server. Made by `Client`."""

    def __init__(
        self,
        connection: Connection,
        job_id: str,
        *,
        watch_seconds: float = WATCH_PATIENCE_SECONDS,
        stuck_seconds: float | None = None,
    ) -> None:
        self.id = job_id
        self._stuck_seconds = stuck_seconds
        self._connection = connection
        self._watch_seconds = watch_seconds
        self._path = f"/v1/jobs/{job_id}"

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobDocument:
        return read(JobDocument, self._connection.send("GET", self._path))

    def watch(self) -> Iterator[JobDocument]:
        """The status now, and after each change until the job has ended.

        Raises NotServed where the client was told how long a job may be stuck.
        """
        patient = dataclasses.replace(
            self._connection.backoff, patience_seconds=self._watch_seconds
        )
        seen: dict[str, str] = {}
        pause = POLL_FIRST_SECONDS
        stuck = 0.0  # for how many seconds by now
        while True:
            answer = self._connection.send("GET", self._path, headers=seen, backoff=patient)
            if answer.status_code == HTTPStatus.NOT_MODIFIED:
                pause = min(1.5 * pause, POLL_LONGEST_SECONDS)
            else:
                status = read(JobDocument, answer)
                yield status
                if status.is_over:
                    return
                seen = {"If-None-Match": answer.headers.get("ETag", "")}
                pause = POLL_FIRST_SECONDS
                stuck = stuck if _is_stuck(status) else 0.0
            if self._stuck_seconds is not None and _is_stuck(status):
                if stuck >= self._stuck_seconds:
                    raise self._not_served(status)
                stuck += pause
            self._connection.sleep(pause)

    def _not_served(self, status: JobDocument) -> NotServed:
        try:
            self.cancel()
            became = "is cancelled"
        except ImpastoError:  # what is in the way of a render may be in the way of this, too
            became = "stays in the queue"
        why_not = status.queue and status.queue.why_not
        return NotServed(f"job {self.id} {became}, no worker can take it: {why_not}")

    def wait(self) -> JobDocument:
        """The status once the job has succeeded. Raises JobFailed, or Cancelled."""
        for status in self.watch():
            if status.status == State.FAILED:
                raise JobFailed(status.error or {})
            if status.status == State.CANCELLED:
                raise Cancelled(f"job {self.id} was cancelled")
        return status

    def cancel(self) -> None:
        """Wish it to stop; its worker does so after the present iteration."""
        self._connection.send("POST", f"{self._path}/cancel")

    def result(self) -> bytes:
        """The picture, in the spec's format, once there is one. Raises JobFailed, or Cancelled."""
        self.wait()
        return self._get("result")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the result, when it is there, as PNG, JPEG or WebP by the path's suffix.

        It is converted where that is not its own format.
        Raises JobFailed, or Cancelled.
        """
        files.write_picture(Path(path), self.result())

    def losses(self) -> str:
        """The loss at every iteration that was measured: CSV with a header."""
        return self._get("losses").decode()

    def manifest(self) -> bytes:
        """How the picture came to be: JSON. Running its spec again gives the same picture."""
        return self._get("manifest")

    def snapshot(self, iteration: int) -> bytes:
        """One of the pictures of the progress, a JPEG; the status tells which there are."""
        return self._get(f"snapshots/{iteration}")

    def _get(self, name: str) -> bytes:
        return self._connection.send("GET", f"{self._path}/{name}").content


def _is_stuck(status: JobDocument) -> bool:
    return status.queue is not None and status.queue.code not in _PASSES
