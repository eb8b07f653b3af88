"""The tables. The migrations build them; a test holds the two against each other."""

from enum import StrEnum

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Enum,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB

from shared.database.clock import Instant
from shared.states import End, Phase, State


def _words(of: type[StrEnum]) -> Enum:
    """A column of an enum's words, as text: the enum may grow without a migration."""
    return Enum(of, native_enum=False, length=16, values_callable=list)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

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
    Column("created_at", Instant, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("state", _words(State), nullable=False),
    Column("spec", Json, nullable=False),
    Column("spec_digest", String(64), nullable=False),
    Column("idempotency_key", String(200)),
    Column("labels", Json, nullable=False),
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
)
Index(None, jobs.c.state, jobs.c.priority.desc(), jobs.c.created_at)  # the claim's order
Index(None, jobs.c.created_at, jobs.c.id)  # the list's order
Index(None, jobs.c.idempotency_key, unique=True)

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
)
