"""Warnings: what a picture's file said and was not honoured, and what to know of a job's spec."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"

Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    for table in ("assets", "jobs"):
        none = sa.Column("warnings", Json, nullable=False, server_default=sa.text("'[]'"))
        op.add_column(table, none)
