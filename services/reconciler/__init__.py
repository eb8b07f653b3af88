"""Puts right what a crash or an outage left behind: leases at once, what lies about in time."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from celery import Celery

from services.reconciler.garbage import Remains
from services.reconciler.leases import Leases
from shared.database import Database
from shared.database.leader import lead
from shared.errors import Unavailable
from shared.storage import Storage

__all__ = ["DAY_SECONDS", "Reconciler"]

_log = structlog.get_logger(__name__)

DAY_SECONDS = 86400

# How long others wait for a leader that is frozen, or whose machine lost its power. Expired leases
# are taken back within milliseconds; to delete a batch takes as long as the storage does.
_LEASES_PATIENCE_SECONDS, _REMAINS_PATIENCE_SECONDS = 5, 60


class Reconciler:
    """Sweeps every few seconds. Each sweep is safe to repeat, and beside others.

    Leases and remains are swept on threads of their own: a storage that does not answer must not
    keep a job waiting whose worker is gone.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        doorbell: Celery,
        *,
        sweep_seconds: float,
        lease_seconds: float,
        retention_days: float = 0,
        orphan_seconds: float = DAY_SECONDS,
        alive_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._sweep_seconds = sweep_seconds
        self._alive_file = alive_file  # touched with each sweep of the leases
        self._leases = Leases(
            database,
            doorbell,
            lease_seconds=lease_seconds,
            sweep_seconds=sweep_seconds,
            clock=clock,
        )
        self._remains = Remains(
            database,
            storage,
            retention_seconds=retention_days * DAY_SECONDS,
            orphan_seconds=orphan_seconds,
        )

    def run(self, stopping: threading.Event) -> None:
        """Sweep until the event is set."""
        beside = threading.Thread(target=self._sweep_remains, args=[stopping], name="remains")
        beside.start()
        while not stopping.is_set():
            try:
                self.sweep_leases()
            except Unavailable as error:
                _log.warning("sweep_failed", detail=error.detail)
            if self._alive_file:
                self._alive_file.touch()
            stopping.wait(self._sweep_seconds)
        beside.join()

    def sweep_leases(self) -> None:
        """Take back expired leases and fail what is too late, if nobody else is at it."""
        self._leases.look()
        with lead(self._database, "leases", patience_seconds=_LEASES_PATIENCE_SECONDS) as is_ours:
            if is_ours:
                self._leases.sweep()

    def sweep_remains(self) -> bool:
        """Delete some of what nobody follows any more; whether there may be more of it."""
        with lead(self._database, "storage", patience_seconds=_REMAINS_PATIENCE_SECONDS) as is_ours:
            return is_ours and self._remains.sweep()

    def _sweep_remains(self, stopping: threading.Event) -> None:
        is_more = False
        while not (stopping.is_set() if is_more else stopping.wait(self._sweep_seconds)):
            try:
                is_more = self.sweep_remains()
            except Unavailable as error:
                is_more = False
                _log.warning("sweep_failed", detail=error.detail)
            except Exception:  # a thread that ended would not be missed by anybody
                is_more = False
                _log.exception("sweep_failed")
