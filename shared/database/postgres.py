"""A connection to Postgres that waits for an answer only so long."""

from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus

_ANSWER_SECONDS = 5.0
_QUIET_SECONDS = 30  # firewalls forget a connection on which nothing is said for minutes

OPTIONS: Final = {
    "connect_timeout": 3,
    "keepalives_idle": _QUIET_SECONDS,
    # The server gives up on a statement before we do; and a client that freezes or vanishes inside
    # a transaction must not keep its locks, which others wait for, longer than we would wait.
    "options": "-c statement_timeout=4s -c idle_in_transaction_session_timeout=5s",
}


class Connection(psycopg.Connection[Any]):
    """Closed as soon as the server takes too long to answer.

    The driver would wait for ever. `statement_timeout` is kept by the server; one that is frozen,
    or behind a network that swallows everything, keeps nothing.
    """

    answer_seconds: float | None = _ANSWER_SECONDS  # None: as long as it takes

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        seconds = timeout or self.answer_seconds
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.OperationalError as error:
            if self.info.transaction_status != TransactionStatus.ACTIVE:
                raise
            # It is still to answer. What it was asked to do may yet happen.
            self.close()
            raise psycopg.OperationalError(f"no answer within {seconds} s") from error
