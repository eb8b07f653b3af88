"""Idempotency keys: a submit that is repeated finds the job that it made."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("idempotency_key", sa.String(200)))
        jobs.create_unique_constraint("uq_jobs_idempotency_key", ["idempotency_key"])
