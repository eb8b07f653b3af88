"""Workers: who was heard of last, and whether they can take jobs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0003"

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Instant = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("device", sa.Text),
        sa.Column("versions", Json, nullable=False),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("busy_slots", sa.Integer, nullable=False),
        sa.Column("max_pixels", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("detail", sa.Text),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("heard_at", Instant, nullable=False),
        sa.Column("lease_expires_at", Instant, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
