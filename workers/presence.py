"""A worker's row in the table `workers`, kept by a thread of its own: who it is, and how it is."""

import dataclasses
import os
import platform
import secrets
import socket
import threading
from collections.abc import Callable
from importlib import metadata
from typing import Any, Self

import structlog

from impasto.shared import metrics
from impasto.shared.database import Database, workers
from impasto.shared.database.workers import Condition, Identity
from impasto.shared.errors import Unavailable
from impasto.shared.states import WorkerState

_log = structlog.get_logger(__name__)

CHANGE_SECONDS = 1.0  # at most so often a change is written
LEAVE_SECONDS = 2.0  # so long a worker that ends waits until the database was told
_RENEWALS = 4  # in a lease: it outlives three that failed
_VERSIONS = ("impasto", "torch")


class Presence:
    """Tells the database of this worker, until it is closed.

    A database that is out of reach costs the worker nothing: what it tells is kept, and written
    once it can be. `tell` never blocks.
    """

    def __init__(self, database: Database, name: str, *, slots: int, lease_seconds: float) -> None:
        self.name = name
        self._database = database
        self._worker = Identity(
            id=secrets.token_hex(8),
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            slots=slots,
            versions={"python": platform.python_version()}
            | {package: metadata.version(package) for package in _VERSIONS},
        )
        self._lease_seconds = lease_seconds
        self._measure: Callable[[], int] | None = None
        self._changed = threading.Condition()
        self._condition = Condition()
        self._written: Condition | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._keep, name="presence", daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def tell(self, **news: Any) -> None:
        """Have changes of the worker's `Condition` written soon. Not for signal handlers."""
        with self._changed:
            if self._condition.state == WorkerState.DRAINING:  # there is no way back
                news = {name: news[name] for name in news.keys() - {"state", "code", "detail"}}
            self._condition = dataclasses.replace(self._condition, **news)
            self._changed.notify()

    def measure(self, max_pixels: Callable[[], int]) -> None:
        """From now on, tell what no larger render fits; it is asked while the worker is idle."""
        self._measure = max_pixels

    def close(self, timeout_seconds: float = LEAVE_SECONDS) -> None:
        """Tell that the worker has ended, if the database can be told in time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _keep(self) -> None:
        write: Callable[..., None] = workers.register
        is_away = False
        while not self._is_closed:
            try:
                told = self._measured()
                write(self._database, self._worker, told, lease_seconds=self._lease_seconds)
            except Unavailable as error:
                if not is_away:
                    _log.warning("presence_not_told", error=error.detail)
                is_away = True
            except Exception:
                metrics.unexpected(_log, "presence_not_told")
            else:
                write, self._written, is_away = workers.renew, told, False
            self._wait()
        self._leave()

    def _measured(self) -> Condition:
        """How the worker is. What a running render takes would be missing from what is free."""
        told = self._condition
        if self._measure and not told.busy_slots:
            self.tell(max_pixels=self._measure())
        return self._condition

    def _wait(self) -> None:
        """Until there is something to write: a change, but not at once, or the lease's renewal."""
        renew_seconds = self._lease_seconds / _RENEWALS
        pause = min(CHANGE_SECONDS, renew_seconds)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, pause)
            self._changed.wait_for(
                lambda: self._is_closed or self._condition != self._written, renew_seconds - pause
            )

    def _leave(self) -> None:
        if self._written is None:
            return
        try:
            workers.leave(self._database, self._worker)
        except Unavailable as error:
            _log.warning("presence_not_told", error=error.detail)
