"""A connection to Postgres that waits for an answer only so long."""

import os
from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus

from ..errors import InvalidSetting

_ANSWER_SECONDS = 5.0
_QUIET_SECONDS = 30  # firewalls forget a connection on which nothing is said for minutes

# The server gives up on a statement before we do; and a client that freezes or vanishes inside a
# transaction must not keep its locks, which others wait for, longer than we would wait.
_LIMITS: Final = {"statement_timeout": "4s", "idle_in_transaction_session_timeout": "5s"}

# Unless the URL, or the variable that libpq reads, gives another.
_USUAL: Final = {
    "connect_timeout": (3, "PGCONNECT_TIMEOUT"),
    "keepalives_idle": (_QUIET_SECONDS, ""),
}


def arguments(query: Mapping[str, Any]) -> dict[str, Any]:
    """What `connect` is given besides a URL with this query, whose parameters all stay.

    Raises InvalidSetting for a parameter that libpq does not know.
    """
    try:
        make_conninfo(**{name: str(value) for name, value in query.items()})
        if not str(seconds := query.get("connect_timeout", "0")).isdecimal():
            raise psycopg.ProgrammingError(f"connect_timeout={seconds}: a whole number of seconds")
    except psycopg.Error as error:
        raise InvalidSetting(
            f"IMPASTO_DATABASE_URL: {str(error).strip()}; accepted behind its ?: the parameters of"
            " libpq, such as options, connect_timeout, keepalives_idle, sslmode"
        ) from None
    return {
        name: value
        for name, (value, variable) in _USUAL.items()
        if name not in query and variable not in os.environ
    }


def connect(**parameters: Any) -> "Connection":
    connection = Connection.connect(
        **parameters,
        autocommit=True,
        # A pooler that hands each transaction to another connection of its own, as PgBouncer does
        # in transaction mode, would run what others have prepared.
        prepare_threshold=None,
    )
    options = connection.info.get_parameters().get("options", "").replace("-", "_")
    limits = [f"SET LOCAL {name} = '{it}'" for name, it in _LIMITS.items() if name not in options]
    connection.begin = "; ".join(["BEGIN", *limits])
    if "statement_timeout" in options:
        connection.answer_seconds = _patience(connection)
    return connection


def _patience(connection: "Connection") -> float | None:
    """A second more than the server grants a statement; None if it grants any time."""
    limit = "SELECT setting::float / 1000 FROM pg_settings WHERE name = 'statement_timeout'"
    (seconds,) = connection.execute(limit).fetchone() or (0,)
    return seconds + 1 if seconds else None


class Connection(psycopg.Connection[Any]):
    """Closed as soon as the server takes too long to answer.

    The driver would wait for ever. `statement_timeout` is kept by the server; one that is frozen,
    or behind a network that swallows everything, keeps nothing.
    """

    answer_seconds: float | None = _ANSWER_SECONDS  # None: as long as it takes
    # What begins a transaction. Its limits go with it and not with the session: a pooler refuses
    # them at the start of one, and would hand them on. All is one message, and costs no time.
    begin = "BEGIN"

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
