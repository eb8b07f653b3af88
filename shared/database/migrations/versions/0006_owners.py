"""Owners of jobs and of uploads, of whom there is one; and the field's words for some columns."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

Instant = sa.DateTime(timezone=True)

_RENAMED = (
    ("assets", "doomed_at", "tombstoned_at"),
    ("checkpoints", "doomed_at", "tombstoned_at"),
    ("attempts", "swept_at", "collected_at"),
    ("workers", "heard_at", "heartbeat_at"),
)
_SETTLED = ("state", "attempt", "claim_id", "failures", "result", "error", "finished_at")
_TRIGGERS = (  # before, now, and what it tells
    ("afterlife", "terminal_state_is_final", "a job that has ended stays as it is"),
    ("regress", "attempt_is_monotonic", "the attempt of a job never falls"),
)


def upgrade() -> None:
    _rename_columns()
    if op.get_bind().dialect.name == "postgresql":
        for before, after, _ in _TRIGGERS:
            names = f"impasto_refuse_{before}", f"impasto_{after}"
            op.execute(f"ALTER TRIGGER {names[0]} ON jobs RENAME TO {names[1]}")
            op.execute(f"ALTER FUNCTION {names[0]}() RENAME TO {names[1]}")
    else:
        _replace_triggers_of_sqlite()
    _add_owners()


def _rename_columns() -> None:
    op.drop_index("ix_checkpoints_doomed_at", "checkpoints")
    op.drop_index("ix_attempts_ended_at", "attempts")
    for table, before, after in _RENAMED:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {before} TO {after}")
    for table, column, where in (
        ("checkpoints", "tombstoned_at", "tombstoned_at IS NOT NULL AND deleted_at IS NULL"),
        ("attempts", "ended_at", "ended_at IS NOT NULL AND collected_at IS NULL"),
    ):
        only = sa.text(where)
        name = f"ix_{table}_{column}"
        op.create_index(name, table, [column], postgresql_where=only, sqlite_where=only)


def _replace_triggers_of_sqlite() -> None:
    changes = " OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in _SETTLED)
    refused = {
        "afterlife": (
            ", ".join(_SETTLED),
            f"OLD.state IN ('succeeded', 'failed', 'cancelled') AND ({changes})",
        ),
        "regress": ("attempt", "NEW.attempt < OLD.attempt"),
    }
    for before, after, message in _TRIGGERS:
        columns, when = refused[before]
        op.execute(f"DROP TRIGGER impasto_refuse_{before}")
        op.execute(
            f"CREATE TRIGGER impasto_{after} BEFORE UPDATE OF {columns} ON jobs"
            f" WHEN {when} BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )


def _add_owners() -> None:
    owner = sa.Column("owner_id", sa.String(32), nullable=False, server_default="default")
    op.add_column("jobs", owner)
    op.drop_index("ix_jobs_idempotency_key", "jobs")
    op.create_index(
        "ix_jobs_owner_id_idempotency_key", "jobs", ["owner_id", "idempotency_key"], unique=True
    )
    op.create_table(
        "asset_grants",
        sa.Column("owner_id", sa.String(32), nullable=False),
        sa.Column("asset_id", sa.String(64), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("owner_id", "asset_id", name="pk_asset_grants"),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["assets.id"], name="fk_asset_grants_asset_id", ondelete="CASCADE"
        ),
    )
    op.execute(
        "INSERT INTO asset_grants (owner_id, asset_id, created_at)"
        " SELECT 'default', id, stored_at FROM assets WHERE stored_at IS NOT NULL"
    )
