"""One database, opened: transactions on SQLite or Postgres that mean the same."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from shared.errors import Unavailable

_BUSY_SECONDS = 10  # how long a writer of SQLite waits for the one before it
_WRITES = "impasto_writes"


class Database:
    """An engine, and the two kinds of transaction that are made on it.

    Both raise `Unavailable` when the database is out of reach.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        with _translated(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        # On SQLite a transaction that will write takes the lock at its beginning: one that only
        # finds out half-way would fail at once instead of waiting for its turn.
        writing = self.engine.execution_options(**{_WRITES: True})
        with _translated(), writing.begin() as connection:
            yield connection

    def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        self.engine.dispose()


def open_database(url: str) -> Database:
    """The database behind a URL: `sqlite:///PATH` or `postgresql+psycopg://...`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return Database(engine)
    connect_args = {"connect_timeout": 3, "options": "-c statement_timeout=15000"}
    return Database(create_engine(parsed, pool_pre_ping=True, connect_args=connect_args))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing; _begin_sqlite does
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what was answered 202 survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Unavailable(f"database out of reach: {_first_line(error)}") from error
    except PoolTimeoutError as error:
        raise Unavailable("no database connection is free") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Unavailable(f"database connection lost: {_first_line(error)}") from error
        raise


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]
