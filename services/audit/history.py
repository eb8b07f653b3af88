"""A job and all that hangs on it, as one moment of the database shows them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, Table, select, text

from impasto.shared import object_keys
from impasto.shared.database import Database
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import Job
from impasto.shared.database.tables import attempts, checkpoints, jobs, snapshots, transitions

_CHUNK = 200  # jobs that are read in one transaction


@dataclass(frozen=True)
class History:
    """The rows of a job, each kind in the order in which it was written."""

    job: Job
    at: datetime  # the database's clock
    transitions: list[Row[Any]] = field(default_factory=list)
    attempts: list[Row[Any]] = field(default_factory=list)
    snapshots: list[Row[Any]] = field(default_factory=list)
    checkpoints: list[Row[Any]] = field(default_factory=list)

    @property
    def folders(self) -> dict[str, Row[Any]]:
        """The attempts, by where their objects lie."""
        return {
            object_keys.attempt(self.job.id, each.attempt, each.claim_id): each
            for each in self.attempts
        }

    @property
    def pointers(self) -> dict[str, str | None]:
        """The keys that somebody may follow; with the digest of the object, where it is known."""
        if self.job.expired_at:
            return {}
        result = self.job.result or {}
        named: dict[str, str | None] = dict.fromkeys(object_keys.keys_of_result(result))
        named |= dict.fromkeys(each.key for each in self.snapshots)
        named |= {each.key: each.sha256 for each in self.checkpoints if not each.tombstoned_at}
        if "key" in result:
            named[result["key"]] = result.get("sha256")
        return named


def histories(database: Database) -> Iterator[History]:
    """Of all jobs, by id; the service may go on meanwhile."""
    last = ""
    while chunk := _read(
        database, select(jobs).where(jobs.c.id > last).order_by(jobs.c.id).limit(_CHUNK)
    ):
        yield from chunk
        last = chunk[-1].job.id


def history(database: Database, job_id: str) -> History | None:
    found = _read(database, select(jobs).where(jobs.c.id == job_id))
    return found[0] if found else None


def _read(database: Database, which: Select[Any]) -> list[History]:
    with database.read() as connection:
        if connection.dialect.name == "postgresql":  # SQLite shows one moment anyhow
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        found = [Job.from_row(row) for row in connection.execute(which)]
        ids = [job.id for job in found]
        rows = [
            _by_job(connection, table, ids, *order)
            for table, order in (
                (transitions, ["id"]),
                (attempts, ["attempt"]),
                (snapshots, ["attempt", "created_at", "iteration"]),
                (checkpoints, ["attempt", "created_at", "iteration"]),
            )
        ]
        at = connection.execute(select(now())).scalar_one()
        return [History(job, at, *(table[job.id] for table in rows)) for job in found]


def _by_job(
    connection: Connection, table: Table, ids: list[str], *order: str
) -> dict[str, list[Row[Any]]]:
    rows: dict[str, list[Row[Any]]] = defaultdict(list)
    query = select(table).where(table.c.job_id.in_(ids)).order_by(*table.c[tuple(order)])
    for row in connection.execute(query):
        rows[row.job_id].append(row)
    return rows
