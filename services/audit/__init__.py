"""What must be true of the database and the storage at any moment, and where it is not.

Read from rows, from the history that the database's own triggers write, and from the objects
themselves; the service may go on meanwhile.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from impasto.shared.database import Database, workers
from impasto.shared.states import WorkerState
from impasto.shared.storage import Storage

from .history import History, histories
from .job_checks import LIVES, Bounds
from .objects import Objects

__all__ = ["INVARIANTS", "Bounds", "Broken", "check"]

INVARIANTS = {
    "I1": "every accepted job exists, and one history leads to its state",
    "I2": "a job ends once",
    "I3": "a job has at most one live lease, and its attempts only rise",
    "I4": "every pointer was written by the claim that was current then",
    "I5": "what a pointer names is in the storage, as it was stored",
    "I6": "iterations only rise, and a resume goes on behind the last checkpoint",
    "I7": "the same idempotency key is the same job",
    "I8": "a cancel request ends a job in time, unless success won",
    "I9": "no outage and no drain is counted as a failure",
    "I10": "every object is named by a row, or within its grace",
    "I11": "a worker that is not ready says why, and one that is gone is forgotten in time",
}


@dataclass(frozen=True)
class Broken:
    """One invariant that does not hold."""

    invariant: str  # of INVARIANTS
    job_id: str | None  # None where it is about a picture that was uploaded, or nobody's object
    detail: str


def check(
    database: Database,
    storage: Storage,
    bounds: Bounds | None = None,
    *,
    accepted: Mapping[str, str | None] | None = None,
    reads: bool = True,
) -> list[Broken]:
    """Where invariants do not hold, in their order. Raises Unavailable.

    accepted: the ids of jobs that were answered 202, each with its idempotency key, if any.
    reads: whether the digests of results and checkpoints are compared, which reads all of them.
    """
    found = _find(database, storage, bounds or Bounds(), accepted or {}, reads=reads)
    order = list(INVARIANTS)
    return sorted(found, key=lambda broken: (order.index(broken.invariant), broken.job_id or ""))


def _find(
    database: Database,
    storage: Storage,
    bounds: Bounds,
    accepted: Mapping[str, str | None],
    *,
    reads: bool,
) -> Iterator[Broken]:
    objects = Objects(database, storage, bounds, reads=reads)  # before any row is read
    keys: dict[str, str | None] = {}  # of the jobs that there are
    for life in histories(database):
        keys[life.job.id] = life.job.idempotency_key
        for invariant, detail in _in_life(life, objects, bounds):
            yield Broken(invariant, life.job.id, detail)
    for job_id in accepted.keys() - keys.keys():
        yield Broken("I1", job_id, "it was accepted, and is not there")
    for job_id, detail in _in_keys(keys, accepted):
        yield Broken("I7", job_id, detail)
    for detail in objects.missing_assets():
        yield Broken("I5", None, detail)
    for detail in (*objects.overdue_assets(), *objects.unowned_objects()):
        yield Broken("I10", None, detail)
    for detail in _in_workers(database, bounds):
        yield Broken("I11", None, detail)


def _in_life(life: History, objects: Objects, bounds: Bounds) -> Iterator[tuple[str, str]]:
    for invariant, look in LIVES.items():
        yield from ((invariant, detail) for detail in look(life, bounds))
    yield from (("I5", detail) for detail in objects.missing(life))
    yield from (("I10", detail) for detail in objects.overdue(life))


def _in_workers(database: Database, bounds: Bounds) -> Iterator[str]:
    for worker in workers.list_workers(database):
        if (worker.state == WorkerState.NOT_READY) != bool(worker.code):
            yield f"worker {worker.name} is {worker.state}, because of {worker.code}"
        gone = worker.at - worker.lease_expires_at
        if gone > bounds.forgotten:
            yield f"worker {worker.name} is gone for {gone.total_seconds():.0f} s, and still listed"


def _in_keys(
    keys: Mapping[str, str | None], accepted: Mapping[str, str | None]
) -> Iterator[tuple[str, str]]:
    for job_id, key in accepted.items():
        if key and job_id in keys and keys[job_id] != key:
            yield job_id, f"it was accepted with the key {key!r}, and has {keys[job_id]!r}"
    first: dict[str, str] = {}
    for job_id, key in keys.items():
        if key and first.setdefault(key, job_id) != job_id:
            yield job_id, f"its key {key!r} is that of job {first[key]}, too"
