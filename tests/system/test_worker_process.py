"""A real `celery worker` is killed or told to stop: its job goes on from a checkpoint."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy import Row

from impasto.shared.database import Database, jobs, workers
from impasto.shared.database.jobs import Job
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.states import TERMINAL, End, State, WorkerState
from impasto.shared.storage import open_storage
from tests.arrange import orders
from tests.arrange.paths import BIN
from tests.arrange.processes import Worker
from tests.arrange.stores import database_at
from tests.arrange.timing import wait_until
from tests.servers.proxy import Proxy
from tests.servers.valkey import ValkeyAt


class SoftWorker(Worker):
    arguments: ClassVar = [str(BIN / "celery"), "-A", "tests.system.soft", "worker"]


class LoadingWorker(Worker):
    """Taken for started while it still imports torch."""

    def answers(self) -> bool:
        return True


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyAt) -> Settings:
    """A folder for database and storage; no API, but a real broker."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), broker_url=valkey.fresh())
    open_storage(settings.storage_url).prepare()
    return settings


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    with database_at(settings.database_url) as database:
        yield database


@pytest.fixture(scope="module")
def environment(settings: Settings) -> dict[str, str]:
    return {
        "IMPASTO_HOME": str(settings.home),
        "IMPASTO_BROKER_URL": settings.broker_url,
        "IMPASTO_CHECKPOINT_SECONDS": "0.1",
        "IMPASTO_IDLE_SECONDS": "600",  # it is Celery's thread that renders, as it mostly is
    }


@pytest.fixture
def order(settings: Settings, database: Database, decoders: Decoders) -> Callable[..., Job]:
    def submit(*, is_notified: bool = True, **fields: Any) -> Job:
        storage = open_storage(settings.storage_url)
        broker_url = settings.broker_url if is_notified else "memory://"
        long = {"iterations": 40, "snapshot_every": 0, **fields}
        return orders.order(database, storage, decoders, broker_url=broker_url, **long)

    return submit


def end_of(database: Database, job: Job) -> jobs.View:
    wait_until(lambda: has_ended(database, job))
    return jobs.view(database, job.id)


def test_a_killed_workers_job_goes_on_to_the_same_bytes(
    environment: dict[str, str], database: Database, order: Callable[..., Job]
) -> None:
    with Worker(environment) as worker:
        undisturbed = end_of(database, order())
        job = killed_in_mid_render(worker, database, order)
        at = jobs.checkpoints(database, job.id)[0].iteration
        wait_until(lambda: jobs.requeue_from(database, job.worker))
        worker.start()
        view = end_of(database, job)

    assert [each.end for each in view.attempts] == [End.LEASE_EXPIRED, End.SUCCEEDED]
    assert view.job.resumed_from_iteration == at > 0
    assert view.job.result["sha256"] == undisturbed.job.result["sha256"]


def killed_in_mid_render(worker: Worker, database: Database, order: Callable[..., Job]) -> Job:
    """A job that was running when its worker was killed, and had a checkpoint."""
    while True:
        job = order()
        wait_until(lambda job=job: jobs.checkpoints(database, job.id) or has_ended(database, job))
        worker.stop(hard=True)
        if jobs.checkpoints(database, job.id):
            return jobs.get(database, job.id)
        worker.start()  # it was quicker than we are


def row_of(database: Database, pid: int) -> Row[Any]:
    """What a worker told of itself last."""
    (row,) = [each for each in workers.list_workers(database) if each.pid == pid]
    return row


def has_ended(database: Database, job: Job) -> bool:
    return jobs.get(database, job.id).state in TERMINAL


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (Worker, signal.SIGINT),
        (Worker, signal.SIGQUIT),
        (SoftWorker, signal.SIGQUIT),
    ],
    ids=["ctrl-c", "cold", "soft"],
)
def test_a_worker_that_is_told_to_stop_hands_back_with_a_checkpoint(
    kind: type[Worker],
    number: signal.Signals,
    environment: dict[str, str],
    database: Database,
    order: Callable[..., Job],
) -> None:
    job = order(iterations=10_000)
    with kind(environment | {"IMPASTO_CHECKPOINT_SECONDS": "600"}) as worker:
        worker.stop_signal = number
        wait_until(lambda: jobs.get(database, job.id).iteration > 3)

        pid, began = worker.pid, time.monotonic()
        worker.stop()
        seconds = time.monotonic() - began

    row = row_of(database, pid)
    assert (row.is_alive, row.state) == (False, WorkerState.DRAINING), "it has said goodbye"
    view, kept = jobs.view(database, job.id), jobs.checkpoints(database, job.id)
    jobs.request_cancel(database, job.id)
    assert seconds < 25
    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert [each.end for each in view.attempts] == [End.HANDED_BACK]
    assert [each.iteration for each in kept] > [3]


def test_a_worker_looks_when_it_starts_and_when_its_broker_is_back(
    settings: Settings,
    environment: dict[str, str],
    database: Database,
    order: Callable[..., Job],
) -> None:
    """No wake-up is sent for either job, and the worker polls every ten minutes."""
    before = order(is_notified=False, iterations=1)
    with Proxy.of(settings.broker_url) as proxy:
        through = {"IMPASTO_BROKER_URL": proxy.url(settings.broker_url)}
        with Worker(environment | through) as worker:
            assert end_of(database, before).job.state == State.SUCCEEDED
            wait_until(lambda: proxy.count)

            proxy.cut()
            wait_until(lambda: not proxy.count)
            meanwhile = order(is_notified=False, iterations=1)
            proxy.heal()

            assert end_of(database, meanwhile).job.state == State.SUCCEEDED
            row = row_of(database, worker.pid)
            assert (row.is_alive, row.state) == (True, WorkerState.READY)


def test_a_worker_that_is_still_loading_leaves_at_once(environment: dict[str, str]) -> None:
    with LoadingWorker(environment) as worker:
        time.sleep(1.5)  # at no known moment of it

        began = time.monotonic()
        worker.stop()

    assert time.monotonic() - began < 25
