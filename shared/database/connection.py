"""One database, opened: transactions on SQLite or Postgres that mean the same."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ..errors import StorageFull, Unavailable

_BUSY_SECONDS = 10.0  # how long a writer of SQLite waits for the one before it
_BUSY_PAUSE_SECONDS = 0.02
_POOL_SECONDS = 5  # how long a transaction waits until another one gives its connection free
_WRITES = "impasto_writes"
_FULL = {"SQLITE_FULL", "53100"}
_READ_ONLY = "25006"  # a Postgres that was the primary until the fail-over


class Database:
    """An engine, and the kinds of transaction that are made on it.

    All raise `Unavailable` when the database is out of reach, within seconds even if it is frozen,
    and `StorageFull` when it has no space left.
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

    @contextlib.contextmanager
    def alter(self) -> Iterator[Connection]:
        """A write whose statements may take as long as they must, as in a migration."""
        with self.write() as connection:
            if self.engine.dialect.name != "postgresql":
                yield connection
                return
            for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {name} = 0")
            driver: Any = connection.connection.driver_connection
            usual, driver.answer_seconds = driver.answer_seconds, None
            try:
                yield connection
            finally:
                driver.answer_seconds = usual

    def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Close all connections: those in use, by other threads, as soon as they are given back."""
        pool = self.engine.pool
        self.engine.dispose()
        event.listen(pool, "checkin", lambda _, record: record.invalidate())


def open_database(url: str) -> Database:
    """The database behind a URL: `sqlite:///PATH` or `postgresql+psycopg://...`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        timeout = float(parsed.query.get("timeout", _BUSY_SECONDS))  # type: ignore[arg-type]
        engine = create_engine(parsed, connect_args={"timeout": timeout})
        event.listen(engine, "connect", lambda driver, _: _prepare_sqlite(driver, timeout))
        event.listen(engine, "begin", _begin_sqlite)
        return Database(engine)
    from . import postgres  # psycopg is an extra

    engine = create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",  # the driver begins nothing; _begin_postgres does
        pool_pre_ping=True,
        pool_timeout=_POOL_SECONDS,
        connect_args=postgres.arguments(parsed.query),
    )
    event.listen(engine, "do_connect", lambda *asked: postgres.connect(**asked[-1]))
    event.listen(engine, "begin", _begin_postgres)
    return Database(engine)


def _prepare_sqlite(connection: Any, busy_seconds: float) -> None:
    connection.isolation_level = None  # the driver begins nothing; _begin_sqlite does
    _write_ahead(connection, busy_seconds)
    connection.execute("PRAGMA synchronous = FULL")  # what was answered 202 survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")


def _write_ahead(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch the file to WAL, waiting for whoever holds it.

    SQLite refuses this statement at once where it meets a lock, whatever its busy timeout says.
    """
    ends = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > ends:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    connection.exec_driver_sql(driver.begin)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("no database connection is free") from error
    except DBAPIError as error:
        code, told = _code(error), str(error.orig).partition("\n")[0]
        if code in _FULL:
            raise StorageFull(f"database: {told}") from error
        if isinstance(error, OperationalError) or code == _READ_ONLY:
            raise Unavailable(f"database out of reach: {told}") from error
        if error.connection_invalidated:
            raise Unavailable(f"database connection lost: {told}") from error
        raise


def _code(error: DBAPIError) -> str | None:
    """SQLite's name of the error, or Postgres' five characters."""
    return getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)
