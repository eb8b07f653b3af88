"""Leader election: one reconciler at a time has a duty."""

import contextlib
from collections.abc import Iterator
from typing import Literal

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ..errors import Unavailable
from .connection import Database

Duty = Literal["leases", "storage"]
_LOCKS: dict[Duty, int] = {"leases": 0x1A9A571, "storage": 0x1A9A572}  # of Postgres, advisory

# A lock of a transaction, which a pooler between us and Postgres keeps on one connection.
_TAKE = text("SELECT pg_try_advisory_xact_lock(:lock)")
# A leader that is frozen, or whose machine lost its power, would keep the lock with its connection.
_BOUND = text("SELECT set_config('idle_in_transaction_session_timeout', :milliseconds, true)")


@contextlib.contextmanager
def hold_leadership(database: Database, duty: Duty, *, patience_seconds: float) -> Iterator[bool]:
    """Whether this process holds the leadership of a duty while the `with` lasts.

    On Postgres the server ends a leadership that is held for longer than `patience_seconds` and
    gives it to the next process that asks. So what is done under it must be safe beside others:
    the lock only saves work. On SQLite there are no others, since one process owns the folder.
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
    """Release the lock; closing a connection that no longer answers releases it, too."""
    try:
        connection.rollback()
    except DBAPIError:
        connection.invalidate()
