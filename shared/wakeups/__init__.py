"""Wake-ups for idle workers: a hint that there is work, and no more. The URL decides the carrier.

The database is the queue, so a wake-up may be lost: idle workers poll.
"""

import logging
from collections.abc import Callable

from .. import metrics

_log = logging.getLogger(__name__)


class WakeUps:
    """Those within one process: subscribers are called, and nothing is kept for later ones.

    A worker that subscribes before its first poll misses nothing. Threads may share one object.
    """

    def __init__(self) -> None:
        self._subscribers: list[Callable[[], None]] = []

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Call `wake` at each wake-up sent by this object, on the sender's thread: it is brief."""
        self._subscribers.append(wake)

    def notify(self) -> bool:
        """Send a wake-up; whether it could be sent.

        Never raises: a lost wake-up costs a few seconds, since idle workers poll the database.
        """
        try:
            self._send()
        except Exception as error:  # whatever it is: the job is already in the database
            metrics.wakeups_unsent.inc()
            _log.warning("wake-up not sent: %s", self._told(error))
            return False
        return True

    def check(self) -> str | None:
        """None if wake-ups can be sent, else what is wrong."""
        return None

    def _send(self) -> None:
        for wake in self._subscribers:
            wake()

    def _told(self, error: Exception) -> str:
        return str(error) or type(error).__name__


def open_wakeups(broker_url: str) -> WakeUps:
    """Wake-ups by `redis://...` or, within one process, `memory://`.

    Raises InvalidSetting for files of certificates that cannot be read.
    """
    if broker_url == "memory://":
        return WakeUps()
    from .celery import CeleryWakeUps  # not needed within one process

    return CeleryWakeUps(broker_url)
