"""Jobs, brought to where a test begins, and what their attempts store without rendering."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from impasto.shared import object_keys
from impasto.shared.database import Database, jobs, tables
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import Checkpoint, Claim, Job, Progress
from impasto.shared.errors import Diverged, LeaseLost
from impasto.shared.states import Phase
from impasto.shared.storage import Storage
from tests.arrange.specs import BYTES, CANVAS, spec

LOSS = {"total": 6.0, "content": 1.0, "style": 5.0, "tv": 0.0}
RESULT = {"key": "jobs/1/result.png", "size_bytes": 3}

# Everything that an attempt asks of its job, all of it fenced.
Write = Callable[[Database, Claim], object]
WRITES: dict[str, Write] = {
    "report": lambda database, claim: jobs.report(
        database, claim, Progress(Phase.RENDERING, iteration=7, loss=LOSS), lease_seconds=60
    ),
    "renew": lambda database, claim: jobs.report(database, claim, None, lease_seconds=60),
    "read_claimed": jobs.read_claimed,
    "add_snapshot": lambda database, claim: jobs.add_snapshot(database, claim, 50, "key"),
    "add_checkpoint": lambda database, claim: jobs.add_checkpoint(
        database, claim, checkpoint(claim.attempt, 7)
    ),
    "discard_checkpoint": lambda database, claim: jobs.discard_checkpoint(
        database, claim, checkpoint(claim.attempt, 7)
    ),
    "resume": lambda database, claim: jobs.resume(database, claim, 7),
    "succeed": lambda database, claim: jobs.succeed(database, claim, RESULT),
    "fail": lambda database, claim: jobs.fail(database, claim, Diverged()),
    "retry": lambda database, claim: jobs.retry(database, claim, Diverged(), after_seconds=0),
    "hand_back": jobs.hand_back,
    "acknowledge_cancel": jobs.acknowledge_cancel,
}

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
A_MOMENT = datetime.timedelta(seconds=20)  # more than a statement takes on the slowest machine


def checkpoint(attempt: int, iteration: int) -> Checkpoint:
    return Checkpoint(attempt, iteration, f"{attempt}/{iteration}", "b" * 64, 2**33)


def submit(
    database: Database, *, canvas: tuple[int, int] = CANVAS, key: str | None = None, **fields: Any
) -> Job:
    return jobs.submit(database, spec(**fields), canvas, idempotency_key=key)[0]


def claim(
    database: Database,
    *,
    worker: str = "w1",
    lease_seconds: float = 60,
    preferred: tuple[int, int] | None = None,
) -> Job:
    job = jobs.claim(database, worker=worker, lease_seconds=lease_seconds, preferred=preferred)
    assert job is not None
    return job


def running(database: Database, *, worker: str = "w1", **fields: Any) -> Job:
    """A new job, claimed: no other may be in the queue, or it must be of a higher priority."""
    job = submit(database, **fields)
    taken = claim(database, worker=worker)
    assert taken.id == job.id
    return taken


def claim_all(database: Database, *, preferred: tuple[int, int] | None = None) -> list[str]:
    """The ids of all jobs in the order in which they are claimed."""
    return [claim(database, preferred=preferred).id for _ in range(jobs.count_runnable(database))]


def change(database: Database, job: Job, **values: Any) -> Job:
    """Let time pass, or whatever else it takes, behind the back of `jobs`."""
    with database.write() as connection:
        connection.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(**values))
    return jobs.get(database, job.id)


def expire(database: Database, job: Job) -> list[Job]:
    """Let the job's lease expire, and requeue it."""
    change(database, job, lease_expires_at=now(-1))
    return jobs.requeue_expired(database)


def assert_fenced(database: Database, claim: Claim) -> None:
    """Whatever is written with the claim is refused, and changes nothing."""
    before = everything(database, claim.job_id)
    for name, write in WRITES.items():
        with pytest.raises(LeaseLost, match=f"job {claim.job_id} is no longer attempt 1's"):
            write(database, claim)
        assert everything(database, claim.job_id) == before, name


def everything(database: Database, job_id: str) -> tuple[jobs.View, list[Checkpoint]]:
    """All that there is to see of the job, but for the time of day."""
    view = dataclasses.replace(jobs.view(database, job_id), at=EPOCH)
    return view, jobs.checkpoints(database, job_id)


# What an attempt stores, and tells the database of.


def folder(claim: Claim) -> str:
    return object_keys.attempt(claim.job_id, claim.attempt, claim.claim_id)


def store_snapshot(
    database: Database, storage: Storage, claim: Claim, iteration: int, data: bytes = BYTES
) -> str:
    key = object_keys.snapshot(folder(claim), iteration)
    storage.put(key, data, "image/jpeg")
    jobs.add_snapshot(database, claim, iteration, key)
    return key


def store_checkpoint(database: Database, storage: Storage, claim: Claim, iteration: int) -> str:
    key = object_keys.checkpoint(folder(claim), iteration)
    storage.put(key, BYTES, "application/octet-stream")
    made = Checkpoint(claim.attempt, iteration, key, object_keys.digest(BYTES), len(BYTES))
    jobs.add_checkpoint(database, claim, made)
    return key


def succeed(
    database: Database,
    storage: Storage,
    claim: Claim,
    *,
    media_type: str = "image/png",
    result: bytes = BYTES,
    losses: bytes = BYTES,
    manifest: bytes = BYTES,
) -> set[str]:
    """Store what a job ends with, and end it; the keys."""
    row = {
        "key": object_keys.result(folder(claim), media_type),
        "losses_key": object_keys.losses(folder(claim)),
        "manifest_key": object_keys.manifest(folder(claim)),
        "media_type": media_type,
        "width": 48,
        "height": 36,
        "size_bytes": len(result),
        "sha256": object_keys.digest(result),
    }
    storage.put(row["key"], result, media_type)
    storage.put(row["losses_key"], losses, "text/csv")
    storage.put(row["manifest_key"], manifest, "application/json")
    jobs.succeed(database, claim, row)
    return object_keys.keys_of_result(row)
