"""Checkpoints, tombstones, and a history of each job's state that the database keeps itself.

Triggers hold what no statement of ours may break, whoever sends it: a job that has ended stays as
it is, an attempt's number never falls, and a state moves only where the table of moves leads.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Instant = sa.DateTime(timezone=True)

_MOVES = (
    ("queued", "running"),
    ("queued", "cancelled"),
    ("queued", "failed"),
    ("running", "queued"),
    ("running", "succeeded"),
    ("running", "failed"),
    ("running", "cancelled"),
)
_SETTLED = ("state", "attempt", "claim_id", "failures", "result", "error", "finished_at")

_MESSAGES = {
    "afterlife": "a job that has ended stays as it is",
    "regress": "the attempt of a job never falls",
    "move": "the state of a job does not move there",
}


def upgrade() -> None:
    _add_tables_and_columns()
    _add_indices()
    op.execute("UPDATE assets SET stored_at = created_at")
    # What happened before nobody knows any more: a history that begins here says so with `before`.
    op.execute(
        "INSERT INTO transitions (job_id, attempt, claim_id, before, after, at)"
        " SELECT id, attempt, claim_id, NULL, state, coalesce(finished_at, claimed_at, created_at)"
        " FROM jobs ORDER BY created_at"
    )
    if op.get_bind().dialect.name == "postgresql":
        _add_triggers_of_postgres()
    else:
        _add_triggers_of_sqlite()


def _add_tables_and_columns() -> None:
    op.add_column("assets", sa.Column("stored_at", Instant))
    op.add_column("assets", sa.Column("doomed_at", Instant))
    op.add_column("jobs", sa.Column("expired_at", Instant))
    resumed = sa.Column("resumed_from_iteration", sa.Integer, nullable=False, server_default="0")
    op.add_column("attempts", resumed)
    op.add_column("attempts", sa.Column("swept_at", Instant))
    op.add_column("attempts", sa.Column("purged_at", Instant))
    op.create_table(
        "checkpoints",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("iteration", sa.Integer, nullable=False),
        sa.Column("claim_id", sa.String(32), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("is_corrupt", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("doomed_at", Instant),
        sa.Column("deleted_at", Instant),
        sa.PrimaryKeyConstraint("job_id", "attempt", "iteration", name="pk_checkpoints"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_checkpoints_job_id", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "transitions",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("claim_id", sa.String(32)),
        sa.Column("before", sa.String(16)),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_transitions"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_transitions_job_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )


def _add_indices() -> None:
    """Indices of what the reconciler still has to do: they stay small, however old the rest is."""
    op.create_index("ix_transitions_job_id", "transitions", ["job_id"])
    _add_partial_index("checkpoints", "doomed_at", "doomed_at IS NOT NULL AND deleted_at IS NULL")
    _add_partial_index("attempts", "ended_at", "ended_at IS NOT NULL AND swept_at IS NULL")
    _add_partial_index("attempts", "job_id", "purged_at IS NULL")
    _add_partial_index("jobs", "finished_at", "finished_at IS NOT NULL AND expired_at IS NULL")
    _add_partial_index("assets", "created_at", "stored_at IS NULL")


def _add_partial_index(table: str, column: str, where: str) -> None:
    only = sa.text(where)
    name = f"ix_{table}_{column}"
    op.create_index(name, table, [column], postgresql_where=only, sqlite_where=only)


def _add_triggers_of_postgres() -> None:
    for name, (columns, refused) in _refused("IS DISTINCT FROM").items():
        op.execute(
            f"CREATE FUNCTION impasto_refuse_{name}() RETURNS trigger LANGUAGE plpgsql AS $$"
            f" BEGIN RAISE EXCEPTION '{_MESSAGES[name]}' USING ERRCODE = 'check_violation'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER impasto_refuse_{name} BEFORE UPDATE OF {columns} ON jobs FOR EACH ROW"
            f" WHEN ({refused}) EXECUTE FUNCTION impasto_refuse_{name}()"
        )
    op.execute("""
        CREATE FUNCTION impasto_remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO transitions (job_id, attempt, claim_id, before, after, at)
            VALUES (NEW.id, NEW.attempt, NEW.claim_id,
                CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, clock_timestamp());
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE TRIGGER impasto_submitted AFTER INSERT ON jobs FOR EACH ROW
        EXECUTE FUNCTION impasto_remember()
    """)
    op.execute("""
        CREATE TRIGGER impasto_moved AFTER UPDATE OF state ON jobs FOR EACH ROW
        WHEN (NEW.state <> OLD.state) EXECUTE FUNCTION impasto_remember()
    """)


def _add_triggers_of_sqlite() -> None:
    for name, (columns, refused) in _refused("IS NOT").items():
        op.execute(
            f"CREATE TRIGGER impasto_refuse_{name} BEFORE UPDATE OF {columns} ON jobs"
            f" WHEN {refused} BEGIN SELECT RAISE(ABORT, '{_MESSAGES[name]}'); END"
        )
    op.execute("""
        CREATE TRIGGER impasto_submitted AFTER INSERT ON jobs BEGIN
            INSERT INTO transitions (job_id, attempt, claim_id, before, after, at)
            VALUES (NEW.id, NEW.attempt, NEW.claim_id, NULL, NEW.state,
                strftime('%Y-%m-%d %H:%M:%f000', 'now'));
        END
    """)
    op.execute("""
        CREATE TRIGGER impasto_moved AFTER UPDATE OF state ON jobs WHEN NEW.state <> OLD.state BEGIN
            INSERT INTO transitions (job_id, attempt, claim_id, before, after, at)
            VALUES (NEW.id, NEW.attempt, NEW.claim_id, OLD.state, NEW.state,
                strftime('%Y-%m-%d %H:%M:%f000', 'now'));
        END
    """)


def _refused(differs: str) -> dict[str, tuple[str, str]]:
    """Which columns are watched, so that a heartbeat costs nothing, and what may not be done there.

    Postgres and SQLite compare NULLs by other words.
    """
    changes = " OR ".join(f"NEW.{name} {differs} OLD.{name}" for name in _SETTLED)
    legal = " OR ".join(
        f"OLD.state = '{before}' AND NEW.state = '{after}'" for before, after in _MOVES
    )
    has_ended = "OLD.state IN ('succeeded', 'failed', 'cancelled')"
    return {
        "afterlife": (", ".join(_SETTLED), f"{has_ended} AND ({changes})"),
        "regress": ("attempt", "NEW.attempt < OLD.attempt"),
        "move": ("state", f"NEW.state <> OLD.state AND NOT ({legal})"),
    }
