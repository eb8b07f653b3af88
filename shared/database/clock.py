"""The database's clock: the only one that leases, deadlines and ages are measured with."""

import datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, TypeDecorator, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class Instant(TypeDecorator[datetime.datetime]):
    """A moment in UTC, whatever the session's time zone; SQLite keeps text, without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime.datetime | None, _dialect: Dialect
    ) -> datetime.datetime | None:
        return value.astimezone(datetime.UTC) if value else None

    def process_result_value(
        self, value: datetime.datetime | None, _dialect: Dialect
    ) -> datetime.datetime | None:
        if value is None:
            return None
        is_text = value.tzinfo is None
        return value.replace(tzinfo=datetime.UTC) if is_text else value.astimezone(datetime.UTC)


class _ClockPlus(GenericFunction[datetime.datetime]):
    name = "impasto_clock_plus"
    type = Instant()
    inherit_cache = True


def now(plus_seconds: float = 0.0) -> _ClockPlus:
    """The database's present moment, or one that many seconds later."""
    return _ClockPlus(literal(float(plus_seconds)))


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
