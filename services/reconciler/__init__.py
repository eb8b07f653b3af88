"""Repairs what a crash or an outage left behind: expired leases at once, garbage in time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from impasto.shared import metrics
from impasto.shared.database import Database
from impasto.shared.database.leader import hold_leadership
from impasto.shared.errors import Unavailable
from impasto.shared.storage import Storage
from impasto.shared.wakeups import WakeUps

from .garbage import GarbageCollector
from .leases import Leases

__all__ = ["DAY_SECONDS", "Reconciler"]

_log = structlog.get_logger(__name__)

DAY_SECONDS = 86400

# How long others wait for a leader that is frozen, or whose machine lost its power. Requeueing
# expired leases takes milliseconds; deleting a batch takes as long as the storage does.
_LEASES_PATIENCE_SECONDS, _GARBAGE_PATIENCE_SECONDS = 5, 60


class Reconciler:
    """Reconciles every few seconds. Each pass is safe to repeat, and to run beside others.

    Leases and garbage have a thread each: a storage that does not answer must not delay a job
    whose worker is gone.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        wakeups: WakeUps,
        *,
        reconcile_seconds: float,
        lease_seconds: float,
        retention_days: float = 0,
        orphan_seconds: float = DAY_SECONDS,
        alive_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._interval_seconds = reconcile_seconds
        self._alive_file = alive_file  # touched after each pass over the leases
        self._leases = Leases(
            database,
            wakeups,
            lease_seconds=lease_seconds,
            reconcile_seconds=reconcile_seconds,
            clock=clock,
        )
        self._garbage = GarbageCollector(
            database,
            storage,
            retention_seconds=retention_days * DAY_SECONDS,
            orphan_seconds=orphan_seconds,
        )

    def run(self, stopping: threading.Event) -> None:
        """Reconcile until the event is set."""
        beside = threading.Thread(target=self._collect_garbage, args=[stopping], name="garbage")
        beside.start()
        while not stopping.is_set():
            _go_on(self.reconcile_leases)
            if self._alive_file:
                self._alive_file.touch()
            stopping.wait(self._interval_seconds)
        beside.join()

    def reconcile_leases(self) -> None:
        """Requeue jobs with expired leases and fail overdue ones, as the leader."""
        self._leases.look()
        with hold_leadership(
            self._database, "leases", patience_seconds=_LEASES_PATIENCE_SECONDS
        ) as is_leader:
            if is_leader:
                self._leases.reconcile()

    def collect_garbage(self) -> bool:
        """Delete a batch of unreferenced objects, as the leader; whether there may be more."""
        with hold_leadership(
            self._database, "storage", patience_seconds=_GARBAGE_PATIENCE_SECONDS
        ) as is_leader:
            return is_leader and self._garbage.collect()

    def _collect_garbage(self, stopping: threading.Event) -> None:
        is_more = False
        while not (stopping.is_set() if is_more else stopping.wait(self._interval_seconds)):
            is_more = bool(_go_on(self.collect_garbage))


def _go_on(reconcile: Callable[[], bool | None]) -> bool | None:
    """What a pass returns, or None if it failed: if its thread ended, nothing would restart it."""
    try:
        return reconcile()
    except Unavailable as error:
        _log.warning("reconcile_failed", detail=error.detail)
    except Exception:
        metrics.unexpected(_log, "reconcile_failed")
    return None
