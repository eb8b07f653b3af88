"""The database's clock: the only one that leases, deadlines and ages are measured with."""

import datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import GenericFunction


class Instant(TypeDecorator[datetime.datetime]):
    """A moment in UTC; SQLite, which keeps text, gets its zone back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        return value.astimezone(datetime.UTC) if value else None

    def process_result_value(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        return value.replace(tzinfo=value.tzinfo or datetime.UTC) if value else None


class _ClockPlus(GenericFunction[datetime.datetime]):
    name = "impasto_clock_plus"
    type = Instant()
    inherit_cache = True


def now(plus_seconds: float | ColumnElement[float] = 0.0) -> _ClockPlus:
    """The database's present moment, or one that many seconds later."""
    return _ClockPlus(literal(plus_seconds) if isinstance(plus_seconds, float | int) else plus_seconds)


@compiles(_ClockPlus, "postgresql")
def _postgresql(element: _ClockPlus, compiler: Any, **kwargs: Any) -> str:
    # clock_timestamp() moves on inside a transaction, now() would not.
    seconds = compiler.process(element.clauses, **kwargs)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(_ClockPlus, "sqlite")
def _sqlite(element: _ClockPlus, compiler: Any, **kwargs: Any) -> str:
    # %f gives milliseconds; SQLAlchemy stores and compares six digits.
    seconds = compiler.process(element.clauses, **kwargs)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', ({seconds}) || ' seconds')"
