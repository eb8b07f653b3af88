"""Ways to break the service on purpose: a suite that none of them turns red proves nothing.

Each takes away one thing that the promise depends on, in the process that it is called in.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

from sqlalchemy import literal

from impasto.shared import object_keys
from impasto.shared.database import jobs
from impasto.shared.database.clock import Instant
from impasto.shared.database.jobs import attempts, clients, expiry, fence, waiting
from impasto.shared.database.tables import jobs as table
from impasto.shared.errors import RenderFailed
from impasto.shared.states import State
from impasto.shared.storage import s3
from impasto.workers import lease
from tests.chaos.chain import LINK, Chain


def no_fence() -> None:
    """Writes carry no claim_id, and no worker gives its lease up by its own clock."""

    def is_of(claim: jobs.Claim) -> Any:
        return (table.c.id == claim.job_id) & (table.c.state == State.RUNNING)

    fence.is_of = attempts.is_of = is_of
    lease._Renewal.ensure_held = lambda _: None


def no_reconciling() -> None:
    """Nobody takes expired leases back."""
    jobs.requeue_expired = lambda *_, **__: []


def keys_without_attempt() -> None:
    """All attempts at a job write into one folder."""
    object_keys.attempt = lambda job_id, *_: f"jobs/{job_id}"


def pointer_before_upload() -> None:
    """The row says that the result is there, and then it is uploaded."""
    put, succeed = s3.S3Storage.put, jobs.succeed
    later: dict[str, list[Callable[[], None]]] = {}

    def put_later(self: s3.S3Storage, key: str, data: bytes, media_type: str) -> None:
        if "/result." in key:
            folder = key.rpartition("/")[0]
            later.setdefault(folder, []).append(lambda: put(self, key, data, media_type))
        else:
            put(self, key, data, media_type)

    def succeed_first(database: Any, claim: jobs.Claim, result: Mapping[str, Any]) -> None:
        succeed(database, claim, result)
        for upload in later.pop(
            object_keys.attempt(claim.job_id, claim.attempt, claim.claim_id), []
        ):
            upload()

    s3.S3Storage.put, jobs.succeed = put_later, succeed_first


def image_only_checkpoint() -> None:
    """A checkpoint keeps the picture, and nothing of how the optimiser came to it."""
    whole = Chain.state_dict

    def state_dict(self: Chain) -> dict[str, Any]:
        return {name: tensor for name, tensor in whole(self).items() if name != LINK}

    Chain.state_dict = state_dict


def drain_counts() -> None:
    """A job that is handed back has failed once more."""

    def hand_back(database: Any, claim: jobs.Claim, *, after_seconds: float = 0) -> None:
        jobs.retry(database, claim, RenderFailed(), after_seconds=after_seconds)

    jobs.hand_back = hand_back


def wall_clock_leases() -> None:
    """Leases are measured with the clock of whichever machine asks."""

    def now(plus_seconds: float = 0.0) -> Any:
        moment = datetime.now(UTC) + timedelta(seconds=plus_seconds)
        return literal(moment, Instant())

    module: ModuleType
    for module in (attempts, clients, expiry, fence, waiting):
        module.now = now


MUTANTS: Mapping[str, Callable[[], None]] = {
    mutant.__name__: mutant
    for mutant in (
        no_fence,
        no_reconciling,
        keys_without_attempt,
        pointer_before_upload,
        image_only_checkpoint,
        drain_counts,
        wall_clock_leases,
    )
}
