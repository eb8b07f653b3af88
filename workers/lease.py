"""An attempt's right to write, kept by a thread of its own, and given up in time."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from impasto.shared import metrics
from impasto.shared.database import Database, jobs
from impasto.shared.errors import (
    Cancelled,
    DeadlineExceeded,
    HandedBack,
    ImpastoError,
    LeaseLost,
    Unavailable,
)

from .watchdog import Watchdog

_log = structlog.get_logger(__name__)

FIRST_SECONDS = 300.0  # for what no steps are counted of: loading, the first iteration, saving
_CHECK_SECONDS = 1.0  # a cancel request is looked for at least so often
_PAUSE_FIRST_SECONDS, _PAUSE_MAX_SECONDS = 0.5, 5.0  # before an outage is tried again


@dataclass(frozen=True, kw_only=True)
class LeaseTimings:
    """How a worker keeps its leases; the settings of the same names explain each."""

    lease_seconds: float = 60.0
    heartbeat_seconds: float = 15.0
    progress_seconds: float = 0.25
    stall_seconds: float = 60.0
    drain_seconds: float = 20.0

    @property
    def renew_seconds(self) -> float:
        """A lease outlives three renewals that failed, however short it is."""
        return min(self.heartbeat_seconds, self.lease_seconds / 4)

    @property
    def fence_seconds(self) -> float:
        """So much before the database lets others in, the worker lets go."""
        return min(10.0, self.lease_seconds / 6)

    @property
    def hand_back_seconds(self) -> float:
        """So long after the order to stop the job is handed back, whatever its slot waits for."""
        return 0.75 * self.drain_seconds


class _Renewal:
    """A claim's row as its worker last wrote it: progress, and until when the lease is held.

    Two threads write: the lease's own, and at the end the slot's.
    """

    def __init__(
        self,
        database: Database,
        claim: jobs.Claim,
        terms: LeaseTimings,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._claim = claim
        self._terms = terms
        self._clock = clock
        self.news: jobs.Progress | None = None  # to be written soon
        began = clock()
        self._writing = threading.Lock()  # guards what follows
        self._written: jobs.Progress | None = None
        self._renewed_at = self._read_at = began - terms.lease_seconds  # the first is due at once
        self._ends = began + terms.lease_seconds - terms.fence_seconds

    @property
    def has_news(self) -> bool:
        return self.news != self._written

    def ensure_held(self) -> None:
        """Raise LeaseLost where others may have the job by now."""
        if self._clock() >= self._ends:
            raise LeaseLost(f"job {self._claim.job_id}: the lease could not be renewed in time")

    def write(self) -> jobs.Job:
        """Renew the lease, and tell the news; the job as it is then."""
        with self._writing:
            asked, told = self._clock(), self.news
            news = told if self.has_news else None
            seconds = self._terms.lease_seconds
            job = jobs.report(self._database, self._claim, news, lease_seconds=seconds)
            self._written = told
            self._renewed_at = self._read_at = asked
            self._ends = asked + seconds - self._terms.fence_seconds
            return job

    def write_or_read(self, *, is_alive: bool) -> jobs.Job | None:
        """The job after a write or a read, if one is due; for work that stalls none is written."""
        now, terms = self._clock(), self._terms
        since = now - self._renewed_at
        is_due = since >= terms.renew_seconds
        is_due |= self.has_news and since >= terms.progress_seconds
        if is_alive and is_due:
            return self.write()
        if now - self._read_at < _CHECK_SECONDS:
            return None
        self._read_at = now
        return jobs.read_claimed(self._database, self._claim)


class Lease:
    """What one claim allows, as its worker may believe it.

    with Lease(...) as lease:
        ...  # `check` often; `tell` what there is to see
        lease.commit(move)

    Its thread writes progress, renews the lease while the work is alive, and reads cancel requests.
    It also writes the ends that cannot wait for a slot, which may be stuck in an upload: a cancel,
    a deadline that passed, and a hand-back once the time for draining is nearly up.

    stopping: set when the worker is to hand everything back.
    clock: monotonic, in seconds; the database's own clock decides, this one only errs early.
    """

    def __init__(
        self,
        database: Database,
        job: jobs.Job,
        terms: LeaseTimings,
        stopping: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._claim = job.claim
        self._terms = terms
        self._stopping = stopping
        self._clock = clock
        self._renewal = _Renewal(database, job.claim, terms, clock)
        self._watchdog = Watchdog(job.id, clock)
        self._deadline = (
            clock() + (job.deadline_at - job.claimed_at).total_seconds()
            if job.deadline_at and job.claimed_at
            else None
        )
        self._hand_back_at: float | None = None
        self._slot_checks = 0  # how often the slot came by
        self.watch(lambda: self._slot_checks)

        self._is_finishing = False
        self._over: ImpastoError | None = None
        self._changed = threading.Event()  # it is over, or the worker is stopping
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()

    def check(self) -> None:
        """Raise LeaseLost, Cancelled, DeadlineExceeded or HandedBack if it is time to.

        After Cancelled and DeadlineExceeded there is nothing left to write.
        """
        self._slot_checks += 1
        if self._over:
            raise self._over
        self._renewal.ensure_held()
        if self._stopping.is_set() and not self._is_finishing:
            raise HandedBack

    def tell(self, progress: jobs.Progress) -> None:
        """Have it written soon."""
        self._renewal.news = progress

    def watch(
        self, progress_counter: Callable[[], int], patience_seconds: float = FIRST_SECONDS
    ) -> None:
        """From now on the lease is renewed only while `progress_counter()` changes now and then."""
        self._watchdog.watch(progress_counter, patience_seconds)

    def finish(self) -> None:
        """What is left is short: a worker that stops shall do it, if it can in its time.

        It is the slot that has to come by from now on, not the device.
        """
        self._is_finishing = True
        self._changed.clear()
        self.watch(lambda: self._slot_checks)

    @property
    def is_stalled(self) -> bool:
        """The work that is watched does not get further."""
        return self._watchdog.is_stalled

    def wait(self, seconds: float) -> None:
        """Sleep, unless there is something to check."""
        self._changed.wait(seconds)

    @property
    def drain_seconds_left(self) -> float:
        """Until the job is handed back for its slot, once the worker is stopping."""
        if self._hand_back_at is None:
            self._hand_back_at = self._clock() + self._terms.hand_back_seconds
        return max(0.0, self._hand_back_at - self._clock())

    def commit(self, move: Callable[[], None]) -> None:
        """Write what was told last, and then the end; again and again while the lease is held.

        move: may be made twice: a commit whose answer is lost is not known from one that failed.
        Raises LeaseLost.
        """
        for pause in pauses():
            try:
                if self._renewal.has_news:
                    self._renewal.write()
                move()
            except Unavailable as error:
                _log.warning("end_delayed", job=self._claim.job_id, detail=error.detail)
            else:
                return
            self._renewal.ensure_held()
            time.sleep(pause)

    def _keep(self) -> None:
        pause = min(self._terms.progress_seconds, _CHECK_SECONDS)
        while not self._over:
            try:
                self._tick()
            except LeaseLost as error:
                self._finish(error)
            except Unavailable as error:
                _log.warning("report_failed", job=self._claim.job_id, detail=error.detail)
            except Exception:
                metrics.unexpected(_log, "report_failed", job=self._claim.job_id)
            if self._left.wait(pause):
                return

    def _tick(self) -> None:
        """What is due now; each in a transaction of its own."""
        self._renewal.ensure_held()
        if self._stopping.is_set():
            if not self._is_finishing:
                self._changed.set()
            if self.drain_seconds_left == 0:
                jobs.hand_back(self._database, self._claim)
                return self._finish(HandedBack())
        if self._deadline is not None and self._clock() >= self._deadline:
            late = DeadlineExceeded()
            jobs.fail(self._database, self._claim, late)
            return self._finish(late)
        job = self._renewal.write_or_read(is_alive=self._watchdog.look())
        if job and job.cancel_requested_at:
            jobs.acknowledge_cancel(self._database, self._claim)
            return self._finish(Cancelled())
        return None

    def _finish(self, why: ImpastoError) -> None:
        self._over = why
        self._changed.set()


def pauses() -> Iterator[float]:
    """How long to wait before each further try, in seconds: longer and longer, with full jitter."""
    limit = _PAUSE_FIRST_SECONDS
    while True:
        yield random.uniform(0, limit)
        limit = min(_PAUSE_MAX_SECONDS, 2 * limit)
