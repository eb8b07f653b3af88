"""The tables. The migrations build them; a test holds the two against each other."""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from ..states import End, Phase, State, WorkerState
from .clock import Instant


def _words(of: type[StrEnum]) -> Enum:
    """A column of an enum's words, as text: the enum may grow without a migration."""
    return Enum(of, native_enum=False, length=16, values_callable=list)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _warnings() -> Column[Any]:
    """What was accepted, and yet is to be known."""
    return Column("warnings", Json, nullable=False, server_default=text("'[]'"))


DEFAULT_OWNER = "default"  # of all there is, until somebody is asked who he is


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

assets = Table(
    "assets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("media_type", String(100), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    _warnings(),
    Column("created_at", Instant, nullable=False),  # of the intent to store it
    Column("stored_at", Instant),  # its object lies in the storage
    Column("tombstoned_at", Instant),  # nobody may find it any more; its object is being deleted
)

# Who may see and use a picture: its bytes are kept once, whoever sent them.
asset_grants = Table(
    "asset_grants",
    metadata,
    Column("owner_id", String(32), primary_key=True),
    Column("asset_id", ForeignKey("assets.id", ondelete="CASCADE"), primary_key=True),
    Column("created_at", Instant, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("owner_id", String(32), nullable=False, server_default=text(f"'{DEFAULT_OWNER}'")),
    Column("version", Integer, nullable=False),
    Column("state", _words(State), nullable=False),
    Column("spec", Json, nullable=False),
    Column("spec_digest", String(64), nullable=False),
    Column("idempotency_key", String(200)),
    Column("labels", Json, nullable=False),
    _warnings(),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("available_at", Instant, nullable=False),
    Column("deadline_at", Instant),
    Column("cancel_requested_at", Instant),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("claim_id", String(32)),
    Column("worker", Text),
    Column("claimed_at", Instant),
    Column("lease_expires_at", Instant),
    Column("phase", _words(Phase)),
    Column("iteration", Integer, nullable=False),
    Column("iterations", Integer, nullable=False),
    Column("it_per_s", Float),
    Column("loss", Json),
    Column("resumed_from_iteration", Integer, nullable=False),
    Column("error", Json),
    Column("result", Json),
    Column("expired_at", Instant),
)
# No index of leases: this one finds those few jobs that run, and a heartbeat changes nothing that
# is indexed, which spares Postgres a new entry in each index (a HOT update).
Index(None, jobs.c.state, jobs.c.priority.desc(), jobs.c.created_at)  # the claim's order
Index(None, jobs.c.created_at, jobs.c.id)  # the list's order
Index(None, jobs.c.owner_id, jobs.c.idempotency_key, unique=True)

snapshots = Table(
    "snapshots",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("iteration", Integer, primary_key=True),
    Column("claim_id", String(32), nullable=False),
    Column("key", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("claim_id", String(32), nullable=False),
    Column("worker", Text, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("end", _words(End)),
    Column("error", Json),
    Column("resumed_from_iteration", Integer, nullable=False, server_default=text("0")),
    Column("collected_at", Instant),  # what lies below its folder and no row points to was deleted
    Column("purged_at", Instant),  # all that lay below its folder was deleted
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("iteration", Integer, primary_key=True),
    Column("claim_id", String(32), nullable=False),
    Column("key", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("is_corrupt", Boolean, nullable=False, server_default=false()),
    Column("tombstoned_at", Instant),  # nobody follows this row any more
    Column("deleted_at", Instant),  # nor is there an object
)

# The history of `jobs.state`. Triggers write it, and nobody else.
transitions = Table(
    "transitions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("claim_id", String(32)),
    Column("before", _words(State)),  # None where the history begins
    Column("after", _words(State), nullable=False),
    Column("at", Instant, nullable=False),
    sqlite_autoincrement=True,
)
Index(None, transitions.c.job_id)

# A row for each life of a worker process; it writes it every few seconds. No index: there are as
# many rows as processes began in a day, and all are read together.
workers = Table(
    "workers",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),  # as in `jobs.worker`
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("device", Text),  # once it is known
    Column("versions", Json, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("busy_slots", Integer, nullable=False),
    Column("max_pixels", BigInteger),  # no render of more fits into its memory
    Column("state", _words(WorkerState), nullable=False),
    Column("code", String(64)),  # of the error that keeps it from being ready
    Column("detail", Text),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("lease_expires_at", Instant, nullable=False),  # past it, the worker counts as gone
)


def _index_where(column: Column[Any], is_undone: ColumnElement[bool]) -> None:
    """An index of what the reconciler still has to do: it stays small, however old the rest is."""
    Index(None, column, postgresql_where=is_undone, sqlite_where=is_undone)


_index_where(
    checkpoints.c.tombstoned_at,
    and_(checkpoints.c.tombstoned_at.is_not(None), checkpoints.c.deleted_at.is_(None)),
)
_index_where(
    attempts.c.ended_at, and_(attempts.c.ended_at.is_not(None), attempts.c.collected_at.is_(None))
)
_index_where(attempts.c.job_id, attempts.c.purged_at.is_(None))
_index_where(jobs.c.finished_at, and_(jobs.c.finished_at.is_not(None), jobs.c.expired_at.is_(None)))
_index_where(assets.c.created_at, assets.c.stored_at.is_(None))
