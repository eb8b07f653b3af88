"""The schema's versions, on both databases."""

import datetime
from collections.abc import Iterable
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import ColumnElement, MetaData, insert, select

from impasto.shared.database import Database, assets, jobs, schema, tables
from impasto.shared.database.tables import metadata
from impasto.shared.errors import SchemaOutdated
from impasto.shared.spec import JobSpec
from impasto.shared.states import End, State
from tests.arrange.jobs import claim, submit
from tests.arrange.specs import ASSET, spec
from tests.arrange.stores import database_at
from tests.arrange.timing import at_once

THEN = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=datetime.UTC)


def test_the_migrations_build_what_the_models_describe(bare_database: Database) -> None:
    schema.upgrade(bare_database)

    with bare_database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_rows_of_an_old_schema_are_read_with_the_present_one(bare_database: Database) -> None:
    schema.upgrade(bare_database, "0001")
    asked = spec(labels={"for": "Ω"})
    fill(bare_database, asked)

    schema.upgrade(bare_database)

    view = jobs.view(bare_database, "old")
    assert view.job.state == State.SUCCEEDED
    assert JobSpec.model_validate(view.job.spec) == asked
    assert view.job.labels == {"for": "Ω"}
    assert view.job.created_at == THEN
    assert view.job.deadline_at is None
    assert view.job.loss == {"total": 0.1}
    assert view.job.error is None
    assert view.job.idempotency_key is None
    assert view.job.owner_id == "default"
    assert view.job.warnings == []
    assert [(each.iteration, each.key) for each in view.snapshots] == [(50, "jobs/old/50")]
    assert [(each.worker, each.end) for each in view.attempts] == [("w1", End.SUCCEEDED)]
    assert view.attempts[0].resumed_from_iteration == 0
    assert view.job.expired_at is None
    assert jobs.checkpoints(bare_database, "old") == []
    assert assets.get(bare_database, ASSET).width == 640
    assert assets.get(bare_database, ASSET).warnings == []
    assert rows(bare_database, tables.assets.c["stored_at", "tombstoned_at"]) == [(THEN, None)]
    known = rows(
        bare_database, tables.transitions.c["attempt", "claim_id", "before", "after", "at"]
    )
    assert known == [(1, "c1", None, State.SUCCEEDED, THEN)]


def test_jobs_of_an_old_schema_go_on_with_the_present_one(bare_database: Database) -> None:
    schema.upgrade(bare_database, "0002")
    began = {"state": "running", "lease_expires_at": THEN, "result": None, "finished_at": None}
    fill(bare_database, spec(), **began)

    schema.upgrade(bare_database)

    (taken,) = jobs.requeue_expired(bare_database)
    assert taken.state == State.QUEUED
    jobs.succeed(bare_database, claim(bare_database).claim, {})
    known = rows(bare_database, tables.transitions.c["before", "after"])
    assert known == [
        (None, State.RUNNING),
        (State.RUNNING, State.QUEUED),
        (State.QUEUED, State.RUNNING),
        (State.RUNNING, State.SUCCEEDED),
    ]


def test_an_old_schema_is_refused_by_name(bare_database: Database) -> None:
    with pytest.raises(SchemaOutdated, match="is at nothing, this version needs 0006; run `impast"):
        schema.check(bare_database)

    schema.upgrade(bare_database, "0001")
    with pytest.raises(SchemaOutdated, match="is at 0001, this version needs 0006"):
        schema.check(bare_database)

    schema.upgrade(bare_database)
    schema.check(bare_database)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(bare_database: Database) -> None:
    schema.upgrade(bare_database)
    job = submit(bare_database)
    before = schema.version(bare_database)

    schema.upgrade(bare_database)

    assert schema.version(bare_database) == before
    assert jobs.get(bare_database, job.id) == job


def test_two_may_upgrade_at_once(database_url: str) -> None:
    def upgrade() -> None:
        with database_at(database_url) as database:
            schema.check(database)

    at_once(2, upgrade)


def rows(database: Database, columns: Iterable[ColumnElement[Any]]) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(select(*columns))]


def fill(database: Database, asked: JobSpec, **changed: object) -> None:
    """One job as version 0001 wrote it: finished, but for what is changed."""
    with database.write() as connection:
        old = MetaData()
        old.reflect(connection)

        def add(table: str, **values: object) -> None:
            connection.execute(insert(old.tables[table]).values(**values))

        add(
            "assets",
            id=ASSET,
            media_type="image/png",
            width=640,
            height=480,
            size_bytes=3 * 2**31,
            created_at=THEN,
        )
        ended = {
            "state": "succeeded",
            "finished_at": THEN,
            "result": {"key": "jobs/old/result.png"},
        }
        add(
            "jobs",
            id="old",
            version=9,
            spec=asked.model_dump(mode="json"),
            spec_digest=asked.digest(),
            labels=asked.labels,
            width=512,
            height=384,
            priority=0,
            created_at=THEN,
            available_at=THEN,
            attempt=1,
            failures=0,
            claim_id="c1",
            worker="w1",
            iteration=200,
            iterations=200,
            loss={"total": 0.1},
            resumed_from_iteration=0,
            **ended | changed,
        )
        at = {"job_id": "old", "attempt": 1, "claim_id": "c1"}
        add("snapshots", **at, iteration=50, key="jobs/old/50", created_at=THEN)
        add("attempts", **at, worker="w1", started_at=THEN, ended_at=THEN, end="succeeded")
