"""Why a job waits, in words and as a code."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from impasto.services.waiting import Reason, why_not
from impasto.shared.database.jobs import Job
from impasto.shared.database.workers import Fleet, Group
from impasto.shared.states import State, Wait, WorkerState

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
THEN = NOW - timedelta(hours=3, seconds=7)


def job(**changed: Any) -> Job:
    usual = dict.fromkeys(field.name for field in dataclasses.fields(Job))
    usual |= {"state": State.QUEUED, "width": 1000, "height": 800, "available_at": THEN}
    return Job(**(usual | changed))


def group(state: WorkerState = WorkerState.READY, code: str | None = None, **changed: Any) -> Group:
    usual = {"workers": 1, "slots": 1, "free_slots": 0, "max_pixels": 10**9}
    return Group(state, code, **(usual | changed))


FREE, FULL = group(free_slots=1), group()
TWO_FULL = group(workers=2, slots=6)
NO_DISK = group(WorkerState.NOT_READY, "storage_full", free_slots=1)
NO_STORE = group(WorkerState.NOT_READY, "unavailable", workers=3, slots=3)
HANGS = group(WorkerState.NOT_READY, "device_stalled")
NEWER = group(WorkerState.NOT_READY, "something_new")
LOADS = group(WorkerState.STARTING, free_slots=1)
GOES = group(WorkerState.DRAINING)
SMALL = group(max_pixels=700**2)

DISK = "1 worker is out of disk: the storage has no room for a picture"
SLOT = "1 worker is full: its slot is taken by other jobs"


@pytest.mark.parametrize(
    ("groups", "code", "words"),
    [
        ([FULL], "busy", SLOT),
        ([TWO_FULL], "busy", "2 workers are full: all 6 slots are taken by other jobs"),
        ([NO_DISK], "storage_full", DISK),
        ([NO_STORE], "unavailable", "3 workers are not ready: the storage is out of reach"),
        ([HANGS], "device_stalled", "1 worker is not ready: its device hangs"),
        ([NEWER], "something_new", "1 worker is not ready: something_new"),
        ([LOADS], "starting", "1 worker is still loading the network's weights"),
        ([GOES], "draining", "1 worker is shutting down"),
        ([NO_DISK, FULL], "busy", f"{SLOT}; {DISK}"),
        (
            [SMALL],
            "too_large",
            "no worker that is alive has the memory for 1000 x 800 px;"
            f" 700 x 700 px is the most that any of them can hold; {SLOT}",
        ),
        ([dataclasses.replace(NO_DISK, max_pixels=9)], "storage_full", DISK),
        ([SMALL, LOADS], "busy", f"{SLOT}; 1 worker is still loading the network's weights"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_job_that_no_worker_can_take_says_what_is_in_the_way(
    groups: list[Group], code: str, words: str
) -> None:
    assert why_not(job(), Fleet(groups, NOW), NOW) == Reason(code, words)


@pytest.mark.parametrize("others", [[], [FULL], [NO_DISK, GOES]])
def test_a_job_that_a_worker_may_take_has_nothing_in_its_way(others: list[Group]) -> None:
    assert why_not(job(), Fleet([FREE, *others], NOW), NOW) is None


def test_without_a_worker_it_says_when_one_last_was_alive() -> None:
    words = "no worker is alive; the last one was seen at 2026-11-27 08:59:53 UTC"
    assert why_not(job(), Fleet([], THEN), NOW) == Reason(Wait.NO_WORKER, words)
    words = "no worker is alive, and none was seen lately"
    assert why_not(job(), Fleet([], None), NOW) == Reason(Wait.NO_WORKER, words)


def test_what_is_in_the_jobs_own_way_comes_first() -> None:
    later = NOW + timedelta(seconds=90)
    words = "it is tried again at 2026-11-27 12:01:30 UTC"
    assert why_not(job(available_at=later), Fleet([], None), NOW) == Reason(Wait.PAUSED, words)
    words = "its deadline has passed, at 2026-11-27 12:00:00 UTC"
    assert why_not(job(deadline_at=NOW), Fleet([FREE], NOW), NOW) == Reason(Wait.OVERDUE, words)


@pytest.mark.parametrize(
    ("changed", "groups"),
    [({"available_at": NOW + timedelta(seconds=90)}, [FREE]), ({}, []), ({}, [FULL])],
)
def test_the_words_do_not_change_with_each_second(
    changed: dict[str, Any], groups: list[Group]
) -> None:
    fleet = Fleet(groups, THEN)
    told = {why_not(job(**changed), fleet, NOW + timedelta(seconds=i)) for i in range(60)}
    assert len(told) == 1
