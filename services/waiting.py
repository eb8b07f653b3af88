"""Why a queued job is claimed by no worker at this moment, in words and as a code."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from math import isqrt

from impasto.shared.database.jobs import Job
from impasto.shared.database.workers import Fleet, Group
from impasto.shared.errors import DeviceStalled, StorageFull, Unavailable
from impasto.shared.states import Wait, WorkerState

# What keeps a worker from being ready, without what only an operator may read: paths, addresses.
_NOT_READY = {
    StorageFull.code: "out of disk: the storage has no room for a picture",
    Unavailable.code: "not ready: the storage is out of reach",
    DeviceStalled.code: "not ready: its device hangs",
}


@dataclass(frozen=True)
class Reason:
    """code: of `Wait`, or of the error that keeps workers from being ready."""

    code: str
    detail: str


def why_not(job: Job, fleet: Fleet, at: datetime) -> Reason | None:
    """None if a worker that is alive may claim the job now, after those before it.

    The words stay the same for as long as what they say does: no seconds are counted in them.
    at: the database's clock.
    """
    if job.available_at > at:
        return Reason(Wait.PAUSED, f"it is tried again at {_moment(job.available_at)}")
    if job.deadline_at and job.deadline_at <= at:
        return Reason(Wait.OVERDUE, f"its deadline has passed, at {_moment(job.deadline_at)}")
    if not fleet.groups:
        return Reason(Wait.NO_WORKER, _nobody(fleet))
    if any(group.free_slots > 0 for group in fleet.ready):
        return None
    reasons = list(_reasons(job, fleet))
    return Reason(reasons[0].code, "; ".join(reason.detail for reason in reasons))


def _reasons(job: Job, fleet: Fleet) -> Iterator[Reason]:
    """What is in the way of each group of workers, what passes by itself first."""
    largest = max(group.max_pixels for group in fleet.groups)
    if fleet.ready and job.width * job.height > largest:
        # One that is free would claim it all the same, and fail it with the size that fits.
        yield Reason(Wait.TOO_LARGE, _too_large(job, largest))
    for group in (*fleet.ready, *(each for each in fleet.groups if each not in fleet.ready)):
        yield _in_the_way(group)


def _in_the_way(group: Group) -> Reason:
    who = "1 worker is" if group.workers == 1 else f"{group.workers} workers are"
    match group.state:
        case WorkerState.READY:
            slots = "its slot is" if group.slots == 1 else f"all {group.slots} slots are"
            return Reason(Wait.BUSY, f"{who} full: {slots} taken by other jobs")
        case WorkerState.STARTING:
            return Reason(Wait.STARTING, f"{who} still loading the network's weights")
        case WorkerState.DRAINING:
            return Reason(Wait.DRAINING, f"{who} shutting down")
        case WorkerState.NOT_READY:
            code = group.code or Unavailable.code
            return Reason(code, f"{who} {_NOT_READY.get(code, f'not ready: {code}')}")


def _nobody(fleet: Fleet) -> str:
    if fleet.heartbeat_at is None:
        return "no worker is alive, and none was seen lately"
    return f"no worker is alive; the last one was seen at {_moment(fleet.heartbeat_at)}"


def _too_large(job: Job, largest: int) -> str:
    side = isqrt(largest)
    return (
        f"no worker that is alive has the memory for {job.width} x {job.height} px;"
        f" {side} x {side} px is the most that any of them can hold"
    )


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
