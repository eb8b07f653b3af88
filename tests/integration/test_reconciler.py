"""What the reconciler puts right and what it deletes, over the stores of both stacks."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Table, select, update

from impasto.services.audit import Bounds, check
from impasto.services.reconciler import Reconciler
from impasto.shared import object_keys
from impasto.shared.database import Database, assets, jobs, open_database, tables, workers
from impasto.shared.database.clock import now
from impasto.shared.database.jobs import Job
from impasto.shared.database.leader import hold_leadership
from impasto.shared.errors import RenderFailed
from impasto.shared.settings import Settings
from impasto.shared.states import State
from impasto.shared.storage import Storage
from impasto.shared.wakeups import WakeUps
from tests.arrange.api import Api, finish, refused
from tests.arrange.api import submit as submit_to_api
from tests.arrange.jobs import claim, folder, store_checkpoint, store_snapshot, submit, succeed
from tests.arrange.specs import BYTES
from tests.arrange.stores import age, begin_upload, killed_put, parts
from tests.arrange.timing import StoppedClock, wait_until
from tests.arrange.worker import identity

UNHURRIED = Bounds(slack_seconds=1e9)  # whatever is still to be deleted may be there


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(1000)


@pytest.fixture
def reconciler(database: Database, storage: Storage, clock: StoppedClock) -> Reconciler:
    return reconciler_of(database, storage, clock=clock)


def reconciler_of(database: Database, storage: Storage, **more: Any) -> Reconciler:
    terms = {"reconcile_seconds": 5, "lease_seconds": 60, "retention_days": 30}
    return Reconciler(database, storage, WakeUps(), **terms | more)


# Leases.


def test_an_expiry_counts_once_the_database_was_seen_for_as_long_as_a_lease(
    database: Database, reconciler: Reconciler, clock: StoppedClock
) -> None:
    job = submit(database)

    reconciler.reconcile_leases()
    assert failures_after_expiry(database, reconciler, job) == 0, "it has just begun to look"

    for _ in range(14):
        clock.seconds += 5
        reconciler.reconcile_leases()
    assert failures_after_expiry(database, reconciler, job) == 1

    clock.seconds += 40  # the database was away, or the reconciler was frozen
    assert failures_after_expiry(database, reconciler, job) == 1


def test_a_storage_that_hangs_keeps_no_lease_waiting(database: Database, storage: Storage) -> None:
    submit(database)
    taken = claim(database).claim
    store_checkpoint(database, storage, taken, 1)
    jobs.fail(database, taken, RenderFailed())
    stopping, is_let_go, hangs = threading.Event(), threading.Event(), threading.Event()

    class Hanging:
        def delete(self, _: str) -> None:
            hangs.set()
            is_let_go.wait()

        def keys(self, prefix: str) -> Iterator[str]:
            return storage.keys(prefix)

    reconciler = reconciler_of(database, Hanging(), reconcile_seconds=0.05, lease_seconds=1)
    runs = threading.Thread(target=reconciler.run, args=[stopping])
    runs.start()
    assert hangs.wait(20)

    job = submit(database)
    claim(database, lease_seconds=-1)
    wait_until(lambda: jobs.get(database, job.id).state == State.QUEUED, seconds=20)

    stopping.set()
    is_let_go.set()
    runs.join()


def test_a_worker_that_is_gone_for_a_day_is_forgotten(
    database: Database, reconciler: Reconciler
) -> None:
    for number in (1, 2):
        workers.register(database, identity(number), workers.Condition(), lease_seconds=60)
        reconciler.reconcile_leases()
        assert len(workers.list_workers(database)) == number, "the first is gone for half a day"
        age(database, days=0.55)

    reconciler.reconcile_leases()

    assert [row.name for row in workers.list_workers(database)] == ["host:2"]


# Who leads: on SQLite, the process that owns the folder.

on_postgres = pytest.mark.parametrize("stack_settings", ["cluster"], indirect=True)


@pytest.mark.parametrize("broken", ["_leases", "_garbage"])
def test_what_nobody_foresaw_is_counted_and_the_next_pass_is_made(
    database: Database, storage: Storage, broken: str
) -> None:
    reconciler = reconciler_of(database, storage, reconcile_seconds=0.01)

    def failures() -> float:
        name, labels = "impasto_unexpected_errors_total", {"event": "reconcile_failed"}
        return REGISTRY.get_sample_value(name, labels) or 0

    before, stopping = failures(), threading.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, broken, None)  # whatever is asked of it is an AttributeError
        running = threading.Thread(target=reconciler.run, args=[stopping])
        running.start()
        wait_until(lambda: failures() >= before + 3)  # two of them were made after one that failed
        stopping.set()
        running.join(60)
    assert not running.is_alive()


@on_postgres
def test_one_leads_at_a_time(stack_settings: Settings, database: Database) -> None:
    with closing(open_database(stack_settings.database_url)) as other:
        for one, another in ((database, other), (other, database)):
            with (
                hold_leadership(one, "storage", patience_seconds=60) as is_ours,
                hold_leadership(another, "storage", patience_seconds=60) as is_theirs,
                hold_leadership(another, "leases", patience_seconds=60) as is_another_duty,
            ):
                assert (is_ours, is_theirs, is_another_duty) == (True, False, True)


@on_postgres
def test_a_leader_that_is_frozen_loses_its_turn(
    stack_settings: Settings, database: Database
) -> None:
    def is_free() -> bool:
        with hold_leadership(other, "storage", patience_seconds=60) as is_ours:
            return is_ours

    with closing(open_database(stack_settings.database_url)) as other:
        with hold_leadership(database, "storage", patience_seconds=0.2) as is_ours:
            assert is_ours
            wait_until(is_free, seconds=20)
        assert is_free()


# What is deleted.


def test_checkpoints_that_nobody_follows_are_deleted(
    database: Database, storage: Storage, reconciler: Reconciler
) -> None:
    submit(database)
    taken = claim(database).claim
    for iteration in (1, 2, 3):
        store_checkpoint(database, storage, taken, iteration)

    reconciler.collect_garbage()
    assert [*storage.keys("jobs/")] == [object_keys.checkpoint(folder(taken), i) for i in (2, 3)]

    jobs.fail(database, taken, RenderFailed())
    reconciler.collect_garbage()
    assert [*storage.keys("jobs/")] == []
    assert None not in column(database, tables.checkpoints, "deleted_at")


def test_what_an_attempt_never_pointed_to_is_deleted_after_a_day(
    database: Database, storage: Storage, reconciler: Reconciler
) -> None:
    kept, orphans = left_by(database, storage)

    reconciler.collect_garbage()
    assert {*storage.keys("jobs/")} == kept | orphans

    age(database, days=1.1)
    reconciler.collect_garbage()
    assert {*storage.keys("jobs/")} == kept
    assert None not in column(database, tables.attempts, "collected_at")


def test_what_a_killed_upload_left_is_deleted_with_it(
    database: Database, storage: Storage, reconciler: Reconciler, stack_settings: Settings
) -> None:
    left_by(database, storage)
    submit(database)
    lost = object_keys.result(folder(claim(database, lease_seconds=-1).claim), "image/png")
    jobs.requeue_expired(database, count_failure=False)
    killed_put(stack_settings.storage_url, lost)
    is_left = bool(parts(stack_settings.storage_url))
    assert is_left == stack_settings.storage_url.startswith("file:")

    age(database, days=1.1)
    reconciler.collect_garbage()

    assert parts(stack_settings.storage_url) == []
    assert not storage.exists(lost)


def test_a_running_attempt_keeps_what_it_has_stored(
    database: Database, storage: Storage, reconciler: Reconciler
) -> None:
    submit(database)
    key = object_keys.result(folder(claim(database).claim), "image/png")
    storage.put(key, BYTES, "image/png")
    age(database, days=2)

    reconciler.collect_garbage()

    assert storage.exists(key)


def test_an_upload_that_broke_off_is_forgotten_after_a_day(
    database: Database, storage: Storage, reconciler: Reconciler
) -> None:
    stored, broken_off, new = (object_keys.digest(name) for name in (b"1", b"2", b"3"))
    for asset_id in (stored, broken_off, new):
        begin_upload(database, asset_id)
        storage.put(object_keys.asset(asset_id), BYTES, "image/png")
    assets.finish_upload(database, stored)
    age(database, days=1.1)
    begin_upload(database, new)

    reconciler.collect_garbage()

    assert {*storage.keys("assets/")} == {object_keys.asset(stored), object_keys.asset(new)}
    assert set(column(database, tables.assets, "id")) == {stored, new}


def test_results_are_kept_for_as_long_as_is_said(
    database: Database, storage: Storage, reconciler: Reconciler
) -> None:
    kept, _ = left_by(database, storage)

    age(database, days=29)
    reconciler.collect_garbage()
    assert {*storage.keys("jobs/")} == kept

    age(database, days=2)
    reconciler_of(database, storage, retention_days=0).collect_garbage()
    assert {*storage.keys("jobs/")} == kept

    reconciler.collect_garbage()
    assert {*storage.keys("jobs/")} == set()
    assert None not in column(database, tables.attempts, "purged_at")


def test_a_reconciler_may_die_at_any_step(database: Database, storage: Storage) -> None:
    left_by(database, storage)
    age(database, days=31)
    left_by(database, storage)
    for broken_off in map(object_keys.digest, [b"1", b"2", b"3", b"4", b"5", b"6"]):
        begin_upload(database, broken_off)
        storage.put(object_keys.asset(broken_off), BYTES, "image/png")
    age(database, days=2)

    for steps in itertools.cycle([2, 3, 4, 5]):  # with 2, an object at a time
        with suppress(Death):
            reconciler_of(database, Dying(storage, steps)).collect_garbage()
            break
        assert check(database, storage, UNHURRIED) == [], "nothing is missing that is named"
    age(database, days=2)
    assert check(database, storage) == [], "nothing is left that is not"


def test_a_job_whose_result_is_deleted_says_so(
    database: Database, storage: Storage, api: Api
) -> None:
    job = submit_to_api(api.client)
    finish(api, job["id"])
    with database.write() as connection:
        of_job = update(tables.jobs).where(tables.jobs.c.id == job["id"])
        connection.execute(of_job.values(expired_at=now()))

    reconciler_of(database, storage).collect_garbage()

    url = f"/v1/jobs/{job['id']}"
    for made in ("result", "losses", "manifest", "snapshots/2"):
        problem = refused(api.client.get(f"{url}/{made}"), 410, "result_expired")
        assert f"what job {job['id']} made was deleted on 20" in problem["detail"]
    document = api.client.get(url).json
    assert document["status"] == "succeeded"
    assert document["times"]["expired_at"]
    assert (document["result"], document["preview"], document["snapshots"]) == (None, None, [])
    assert set(document["links"].values()) == {url, None}


class Death(BaseException):
    """As kill -9 would: nothing of ours may catch it."""


class Dying:
    """A storage whose user dies after so many steps: before a call, or after it."""

    def __init__(self, storage: Storage, steps: int) -> None:
        self._storage = storage
        self._left = steps

    def delete(self, key: str) -> None:
        self._live()
        self._storage.delete(key)
        self._live()

    def keys(self, prefix: str) -> Iterator[str]:
        self._live()
        return self._storage.keys(prefix)

    def remove_partial_uploads(self, prefix: str) -> None:
        self._live()
        self._storage.remove_partial_uploads(prefix)

    def _live(self) -> None:
        if not self._left:
            raise Death
        self._left -= 1


def left_by(database: Database, storage: Storage) -> tuple[set[str], set[str]]:
    """What the two attempts of a job that succeeded have stored: what rows name, and the rest."""
    submit(database)
    lost = claim(database, lease_seconds=-1).claim
    kept = {store_snapshot(database, storage, lost, 1)}
    store_checkpoint(database, storage, lost, 1)  # which gets a tombstone when the job ends
    jobs.requeue_expired(database, count_failure=False)
    taken = claim(database).claim
    jobs.resume(database, taken, 1)
    orphans = {object_keys.manifest(folder(lost)), object_keys.snapshot(folder(taken), 2)}
    for key in orphans:
        storage.put(key, BYTES, "image/jpeg")
    return kept | succeed(database, storage, taken), orphans


def failures_after_expiry(database: Database, reconciler: Reconciler, job: Job) -> int:
    claim(database, lease_seconds=-1)
    reconciler.reconcile_leases()
    after = jobs.get(database, job.id)
    assert after.state == State.QUEUED
    return after.failures


def column(database: Database, table: Table, name: str) -> list[Any]:
    with database.read() as connection:
        found = connection.execute(select(table.c[name])).scalars().all()
    assert found
    return list(found)
