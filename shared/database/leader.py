"""One at a time: whose turn it is to sweep."""

import contextlib
from collections.abc import Iterator

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from shared.database.connection import Database
from shared.errors import Unavailable

_LOCKS = {"leases": 0x1A9A571, "storage": 0x1A9A572}  # advisory locks of Postgres

# A lock of a transaction, which a pooler between us and Postgres keeps on one connection.
_TAKE = text("SELECT pg_try_advisory_xact_lock(:lock)")
# A leader that is frozen, or whose machine lost its power, would keep the lock with its connection.
_BOUND = text("SELECT set_config('idle_in_transaction_session_timeout', :milliseconds, true)")


@contextlib.contextmanager
def lead(database: Database, duty: str, *, patience_seconds: float) -> Iterator[bool]:
    """Whether the duty is ours while the `with` lasts.

    On Postgres the server gives it to another one that asks once we have kept it for longer than
    our patience, so what is done under it must be safe beside others: the lock only saves work. On
    SQLite there are no others, for the process owns the folder.
    """
    if database.engine.dialect.name != "postgresql":
        yield True
        return
    with contextlib.ExitStack() as stack:
        try:
            connection = stack.enter_context(database.engine.connect())
            stack.callback(_give_up, connection)
            connection.execute(_BOUND, {"milliseconds": f"{patience_seconds * 1000:.0f}"})
            is_ours = connection.execute(_TAKE, {"lock": _LOCKS[duty]}).scalar_one()
        except DBAPIError as error:
            raise Unavailable(f"database out of reach: {error.orig}") from error
        if not is_ours:
            _give_up(connection)
        yield is_ours


def _give_up(connection: Connection) -> None:
    """Let others lead; a connection that cannot say so is closed, which says it, too."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
