"""One worker process: its slots, its claims, and its polling for jobs."""

import contextlib
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from impasto.shared import metrics
from impasto.shared.database import Database, jobs
from impasto.shared.errors import Unavailable
from impasto.shared.states import WorkerState

_log = structlog.get_logger(__name__)

Render = Callable[[jobs.Job, threading.Event], None]

_READY = "ready"
_READY_SECONDS = 5.0  # how long a check is trusted: each costs an S3 request


class Worker:
    """Claims jobs while a slot is free, and gives each to `render`.

    render: works on one claimed job until it has ended; returns early, with the job requeued,
    once the event is set.
    check: raises Unavailable while no result could be stored, as on a full disk. Meanwhile nothing
    is claimed: each claim would be a render for nothing.
    alive_file: written every `idle_seconds`, so that others see that this process polls. It says
    "ready", or why nothing is claimed.
    tell: called at each change of `state`, with its `code` and `detail`, and of `busy_slots`.
    """

    def __init__(
        self,
        database: Database,
        render: Render,
        *,
        name: str,
        slots: int,
        lease_seconds: float,
        idle_seconds: float,
        check: Callable[[], None] = lambda: None,
        alive_file: Path | None = None,
        tell: Callable[..., None] = lambda **_: None,
    ) -> None:
        self.name = name
        self._render = render
        self._idle_seconds = idle_seconds
        self._alive_file = alive_file
        self._tell = tell
        self._readiness = _Readiness(check, idle_seconds, tell)
        self._slots = threading.Semaphore(slots)
        self._slot_count = slots
        self._busy_slots = 0
        self._counting = threading.Lock()
        self._last_call = object()  # of `work`: another object for each
        self._stopping = threading.Event()
        self._claims = _Claims(database, name, lease_seconds)
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def start(self) -> Self:
        """Poll for jobs at once, and from now on."""
        self._poller.start()
        return self

    def look(self) -> None:
        """Poll for jobs now: wake-ups may have been lost. Returns at once."""
        if self._poller.is_alive():  # it polls when it starts
            threading.Thread(target=self._look, name="look", daemon=True).start()

    def work(self) -> None:
        """Render queued jobs, one after the other, until none is left or no slot is free."""
        self._last_call = object()
        while not self._stopping.is_set() and self._slots.acquire(blocking=False):
            last_call = self._last_call
            try:
                job = self._claims.next() if self._readiness.ask() else None
                if job is not None:
                    self._count(1)
                    try:
                        self._render(job, self._stopping)
                    finally:
                        self._count(-1)
            finally:
                self._slots.release()
            # The claim may not have seen the job of a call since then, which found this slot taken.
            if job is None and self._last_call is last_call:
                return

    def begin_work(self) -> None:
        """`work`, on a thread of its own. Returns at once."""
        threading.Thread(target=self.work, name="slot", daemon=True).start()

    def drain(self) -> None:
        """Claim nothing more, and requeue all that is running. Returns at once."""
        self._stopping.set()

    def close(self, timeout_seconds: float) -> bool:
        """Drain, and wait for every slot to be free; whether all were in time."""
        self.drain()
        ends = time.monotonic() + timeout_seconds
        if self._poller.is_alive():
            self._poller.join(timeout_seconds)
        # All slots are taken at the end, each waited for: the bound is for all of them together.
        return all(
            self._slots.acquire(timeout=max(0.0, ends - time.monotonic()))
            for _ in range(self._slot_count)
        )

    def _poll(self) -> None:
        is_over = False
        while not is_over:
            self._look()
            is_over = self._stopping.wait(self._pause_seconds())
        self._tell(state=WorkerState.DRAINING, code=None, detail=None)

    def _look(self) -> None:
        """Fill the free slots, if there is work for them."""
        try:
            is_ready = self._readiness.ask()
            self._say_alive()
            if is_ready and self._has_free_slot():
                for _ in range(min(self._claims.count(), self._slot_count)):
                    self.begin_work()
        except Exception:  # the thread must go on
            metrics.unexpected(_log, "poll_failed")

    def _pause_seconds(self) -> float:
        """Until the next poll: shorter while the worker is not ready."""
        is_ready = self._readiness.known == _READY
        return self._idle_seconds if is_ready else min(self._idle_seconds, _READY_SECONDS)

    def _count(self, change: int) -> None:
        with self._counting:
            self._busy_slots += change
            self._tell(busy_slots=self._busy_slots)

    def _say_alive(self) -> None:
        if self._alive_file is None:
            return
        try:
            self._alive_file.write_text(f"{self._readiness.known}\n")
        except OSError as error:  # its disk may be the one that is full
            _log.warning("alive_file_failed", error=str(error))

    def _has_free_slot(self) -> bool:
        is_free = self._slots.acquire(blocking=False)
        if is_free:
            self._slots.release()
        return is_free


class _Claims:
    """A worker's claims: of its own canvas first, and none is forgotten whose answer was lost."""

    def __init__(self, database: Database, worker: str, lease_seconds: float) -> None:
        self._database = database
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._canvas: tuple[int, int] | None = None  # of the job claimed last
        self._unconfirmed: deque[str] = deque()  # ids of claims whose answer was lost

    def next(self) -> jobs.Job | None:
        """The next job, now this worker's; None when there is none, or no answer."""
        try:
            job = self._ask()
        except Unavailable as error:
            _log.warning("claim_failed", error=error.detail)
            return None
        if job is not None:
            self._canvas = (job.width, job.height)
            _log.info("claimed", job=job.id, attempt=job.attempt)
        return job

    def count(self) -> int:
        """How many jobs there may be to claim."""
        try:
            return len(self._unconfirmed) + jobs.count_runnable(self._database)
        except Unavailable as error:
            _log.warning("poll_failed", error=error.detail)
            return len(self._unconfirmed)

    def _ask(self) -> jobs.Job | None:
        """First for one that was claimed, but whose answer was lost."""
        claim_id = ""
        with contextlib.suppress(IndexError):
            claim_id = self._unconfirmed.popleft()
        try:
            if claim_id:
                lease_seconds = self._lease_seconds
                if job := jobs.reclaim(self._database, claim_id, lease_seconds=lease_seconds):
                    return job
            claim_id = secrets.token_hex(8)
            return jobs.claim(
                self._database,
                worker=self._worker,
                lease_seconds=self._lease_seconds,
                preferred=self._canvas,
                claim_id=claim_id,
            )
        except Unavailable:
            self._unconfirmed.append(claim_id)
            raise


class _Readiness:
    """Whether a worker may claim, as `check` said not long ago."""

    def __init__(
        self, check: Callable[[], None], idle_seconds: float, tell: Callable[..., None]
    ) -> None:
        self.known = ""  # then "ready", or the reason why not
        self._check = check
        self._tell = tell
        self._again_seconds = min(idle_seconds, _READY_SECONDS)  # while it is not ready
        self._lock = threading.Lock()
        self._ask_again_at = time.monotonic()

    def ask(self) -> bool:
        with self._lock:
            if time.monotonic() >= self._ask_again_at:
                self._learn()
            return self.known == _READY

    def _learn(self) -> None:
        before = self.known
        try:
            self._check()
        except Unavailable as error:
            self.known = f"{error.code}: {error.detail}"
            self._ask_again_at = time.monotonic() + self._again_seconds
            if not before.startswith(f"{error.code}: "):  # its details may differ each time
                self._tell(state=WorkerState.NOT_READY, code=error.code, detail=error.detail)
            _log.warning("not_ready", error=self.known)
        else:
            self.known = _READY
            self._ask_again_at = time.monotonic() + _READY_SECONDS
            if before != _READY:
                self._tell(state=WorkerState.READY, code=None, detail=None)
            if before not in {"", _READY}:
                _log.info("ready_again")
