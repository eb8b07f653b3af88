"""Garbage collection: deletes the objects in the storage that no row needs any more.

First the row gets a tombstone, then the object is deleted, and last the row is marked: a process
that dies in between leaves work that the next pass finds. Only folders and keys that a row names
are searched. There are no multipart uploads to abort: an object is put in one request.
"""

from collections.abc import Callable, Iterator

import structlog

from impasto.shared import object_keys
from impasto.shared.database import Database, assets, retention
from impasto.shared.storage import Storage

_log = structlog.get_logger(__name__)

_BATCH = 50  # of each kind and pass; between two passes another reconciler may take over


class GarbageCollector:
    """Deletes in small batches; each step can be repeated.

    retention_seconds: how long after its end a job's objects are kept; 0: for ever.
    orphan_seconds: how long an object that no row points to may lie.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        *,
        retention_seconds: float,
        orphan_seconds: float,
    ) -> None:
        self._database = database
        self._storage = storage
        self._retention_seconds = retention_seconds
        self._orphan_seconds = orphan_seconds

    def collect(self) -> bool:
        """Delete a batch of each kind; whether there may be more. Raises Unavailable."""
        kinds: list[Callable[[], int]] = [
            self._delete_checkpoints,
            self._expire_jobs,
            self._purge_attempts,
            self._collect_orphans,
            self._forget_uploads,
        ]
        done = [kind() for kind in kinds]
        return max(done) >= _BATCH

    def _delete_checkpoints(self) -> int:
        """Those that newer ones have replaced, that were corrupt, and those of jobs that ended."""
        tombstones = retention.list_tombstones(self._database, limit=_BATCH)
        for checkpoint in tombstones:
            self._storage.delete(checkpoint.key)
            retention.mark_deleted(self._database, checkpoint)
        return len(tombstones)

    def _expire_jobs(self) -> int:
        if not self._retention_seconds:
            return 0
        expired = retention.expire(
            self._database, older_than_seconds=self._retention_seconds, limit=_BATCH
        )
        for job_id in expired:
            _log.info("job_expired", job=job_id)
        return len(expired)

    def _purge_attempts(self) -> int:
        """Delete all that the attempts of expired jobs have made."""
        folders = retention.list_unpurged(self._database, limit=_BATCH)
        for folder in folders:
            for key in self._storage.keys(folder.prefix):
                self._storage.delete(key)
            self._storage.remove_partial_uploads(folder.prefix)
            retention.mark_purged(self._database, folder)
        return len(folders)

    def _collect_orphans(self) -> int:
        """Delete what attempts uploaded and no row points to."""
        folders = retention.list_uncollected(
            self._database, older_than_seconds=self._orphan_seconds, limit=_BATCH
        )
        for folder in folders:
            for key in self._orphans(folder):
                self._storage.delete(key)
                _log.info("orphan_deleted", key=key)
            self._storage.remove_partial_uploads(folder.prefix)
            retention.mark_collected(self._database, folder)
        return len(folders)

    def _orphans(self, folder: retention.Folder) -> Iterator[str]:
        named = retention.pointers(self._database, folder)
        return (key for key in self._storage.keys(folder.prefix) if key not in named)

    def _forget_uploads(self) -> int:
        """Delete what unfinished uploads left."""
        unfinished = assets.tombstone(
            self._database, older_than_seconds=self._orphan_seconds, limit=_BATCH
        )
        for asset_id in unfinished:
            self._storage.delete(object_keys.asset(asset_id))
            self._storage.remove_partial_uploads(object_keys.asset(asset_id))
            assets.forget(self._database, asset_id)
        return len(unfinished)
