"""Jobs, what attempts leave of them without rendering anything, and time that goes by."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection, Table, delete, select, text, update

from impasto.shared import object_keys
from impasto.shared.database import Database, assets, jobs, tables
from impasto.shared.database.clock import Instant
from impasto.shared.database.jobs import Checkpoint, Claim, Job
from impasto.shared.spec import JobSpec
from impasto.shared.storage import Storage

BYTES = b"a picture"
ASSET = object_keys.digest(BYTES)


def clear(database: Database) -> None:
    with database.write() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            connection.execute(delete(table))


def begin_upload(database: Database, asset_id: str) -> None:
    assets.begin_upload(
        database, id=asset_id, media_type="image/png", width=9, height=9, size_bytes=9
    )


def submit(database: Database, key: str | None = None) -> Job:
    spec = JobSpec(content=ASSET, styles=[ASSET])
    return jobs.submit(database, spec, (64, 48), idempotency_key=key)[0]


def claim(database: Database, lease_seconds: float = 60) -> Claim:
    job = jobs.claim(database, worker="w", lease_seconds=lease_seconds)
    assert job is not None
    return job.claim


def folder(of: Job | Claim) -> str:
    taken = of.claim if isinstance(of, Job) else of
    return object_keys.attempt(taken.job_id, taken.attempt, taken.claim_id)


def snapshot(database: Database, storage: Storage, taken: Claim, iteration: int) -> str:
    key = object_keys.snapshot(folder(taken), iteration)
    storage.put(key, BYTES, "image/jpeg")
    jobs.add_snapshot(database, taken, iteration, key)
    return key


def checkpoint(database: Database, storage: Storage, taken: Claim, iteration: int) -> str:
    key = object_keys.checkpoint(folder(taken), iteration)
    storage.put(key, BYTES, "application/octet-stream")
    made = Checkpoint(taken.attempt, iteration, key, object_keys.digest(BYTES), len(BYTES))
    jobs.add_checkpoint(database, taken, made)
    return key


def succeed(database: Database, storage: Storage, taken: Claim) -> set[str]:
    result = {
        "key": object_keys.result(folder(taken), "image/png"),
        "losses_key": object_keys.losses(folder(taken)),
        "manifest_key": object_keys.manifest(folder(taken)),
        "sha256": object_keys.digest(BYTES),
    }
    for key in object_keys.keys_of_result(result):
        storage.put(key, BYTES, "image/png")
    jobs.succeed(database, taken, result)
    return object_keys.keys_of_result(result)


def age(database: Database, *, days: float) -> None:
    """Let time go by for all that there is."""
    with database.write() as connection, without_triggers(connection):
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings().all():
                is_it = [column == row[column.name] for column in table.primary_key]
                earlier = {
                    name: row[name] - timedelta(days=days) for name in _instants(table) if row[name]
                }
                if earlier:
                    connection.execute(update(table).where(*is_it).values(earlier))


@contextmanager
def without_triggers(connection: Connection) -> Iterator[None]:
    """Where the database would refuse what a test has to do to it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE jobs DISABLE TRIGGER USER"))
        yield
        connection.execute(text("ALTER TABLE jobs ENABLE TRIGGER USER"))
        return
    names = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    triggers = connection.execute(names).all()
    for trigger in triggers:
        connection.execute(text(f"DROP TRIGGER {trigger.name}"))
    yield
    for trigger in triggers:
        connection.exec_driver_sql(trigger.sql)


def _instants(table: Table) -> list[str]:
    return [column.name for column in table.c if isinstance(column.type, Instant)]
