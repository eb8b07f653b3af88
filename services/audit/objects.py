"""What must be true of the storage: what is named is there, and what is there is named."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from sqlalchemy import select

from impasto.shared import object_keys
from impasto.shared.database import Database
from impasto.shared.database.clock import now
from impasto.shared.database.tables import assets
from impasto.shared.errors import ObjectNotFound
from impasto.shared.states import State
from impasto.shared.storage import Storage

from .history import History, history
from .job_checks import Bounds

_CHUNK_BYTES = 2**20


class Objects:
    """All objects of ours, listed before the rows are read: a row is always older than its object.

    What seems wrong is looked at once more, for the service goes on meanwhile.
    reads: whether digests are compared, too.
    """

    def __init__(
        self, database: Database, storage: Storage, bounds: Bounds, *, reads: bool
    ) -> None:
        self._database = database
        self._storage = storage
        self._bounds = bounds
        self._reads = reads
        self._of_jobs: dict[str, set[str]] = defaultdict(set)
        for key in storage.keys("jobs/"):
            self._of_jobs[key.split("/")[1]].add(key)
        self._of_assets = set(storage.keys("assets/"))

    def missing(self, life: History) -> Iterator[str]:
        """Pointers of a job that lead to nothing, or to something else."""
        if life.job.state == State.SUCCEEDED and not life.job.result:
            yield "it succeeded without a result"
        for key, sha256 in sorted(life.pointers.items()):
            if told := self._wrong(life, key, sha256):
                again = history(self._database, life.job.id)
                if again and key in again.pointers:
                    yield told

    def overdue(self, life: History) -> Iterator[str]:
        """Objects of a job that should be gone."""
        for key in sorted(self._of_jobs.pop(life.job.id, ())):
            if self._is_overdue(life, key) and self._storage.exists(key):
                yield f"nobody needs {key}"

    def unowned_objects(self) -> Iterator[str]:
        """Objects of jobs that there are not. To be asked for last."""
        for key in sorted(set().union(*self._of_jobs.values())):
            if self._storage.exists(key):
                yield f"nobody knows {key}"

    def missing_assets(self) -> Iterator[str]:
        with self._database.read() as connection:
            is_there = assets.c.stored_at.is_not(None) & assets.c.tombstoned_at.is_(None)
            ids = connection.execute(select(assets.c.id).where(is_there)).scalars().all()
        for key in sorted(set(map(object_keys.asset, ids)) - self._of_assets):
            if not self._storage.exists(key):
                yield f"{key} is missing"

    def overdue_assets(self) -> Iterator[str]:
        with self._database.read() as connection:
            patience = now(-self._bounds.grace.total_seconds())
            is_wanted = assets.c.stored_at.is_not(None) | (assets.c.created_at > patience)
            ids = connection.execute(select(assets.c.id).where(is_wanted)).scalars().all()
        for key in sorted(self._of_assets - set(map(object_keys.asset, ids))):
            if self._storage.exists(key):
                yield f"nobody needs {key}"

    def _wrong(self, life: History, key: str, sha256: str | None) -> str | None:
        try:
            if sha256 and self._reads:
                if self._digest(key) != sha256:
                    return f"{key} is not what was stored"
            elif key not in self._of_jobs.get(life.job.id, ()) and not self._storage.exists(key):
                return f"{key} is missing"
        except ObjectNotFound:
            return f"{key} is missing"
        return None

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._storage.open(key) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def _is_overdue(self, life: History, key: str) -> bool:
        """Whether no row names the object, and for longer than its grace."""
        if key in life.pointers:
            return False
        attempt = next(
            (each for folder, each in life.folders.items() if key.startswith(f"{folder}/")), None
        )
        if attempt is None:
            return True
        tombstoned = [each.tombstoned_at for each in life.checkpoints if each.key == key]
        since = life.job.expired_at or next(iter(tombstoned), None) or attempt.ended_at
        return since is not None and life.at - since > self._bounds.grace
