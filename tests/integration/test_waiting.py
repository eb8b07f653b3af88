"""Clients of either stack see why a job waits, and operators who is there."""

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete

from impasto.shared.database import tables, workers
from impasto.shared.database.workers import Condition, Identity
from impasto.shared.states import WorkerState
from tests.arrange.api import Api, submit
from tests.arrange.worker import identity

READY = Condition(WorkerState.READY)
WORKER = identity()


@pytest.fixture(autouse=True)
def nobody_is_there(api: Api) -> Iterator[None]:
    yield
    with api.connections.database.write() as connection:
        connection.execute(delete(tables.workers))


def tell(api: Api, condition: Condition = READY, worker: Identity = WORKER) -> None:
    workers.register(api.connections.database, worker, condition, lease_seconds=60)


def told(client: FlaskClient, job: dict) -> dict:
    return client.get(job["links"]["self"]).json["queue"]


def test_a_queued_job_says_whether_a_worker_can_take_it(api: Api) -> None:
    job = submit(api.client)
    queue = told(api.client, job)
    assert (queue["runnable"], queue["code"]) == (False, "no_worker")
    assert queue["why_not"] == "no worker is alive, and none was seen lately"

    tell(api)
    queue = told(api.client, job)
    assert (queue["runnable"], queue["code"], queue["why_not"]) == (True, None, None)

    tell(api, Condition(WorkerState.NOT_READY, "storage_full", "no room in /secret/place"))
    queue = told(api.client, job)
    assert (queue["runnable"], queue["code"]) == (False, "storage_full")
    assert "out of disk" in queue["why_not"]
    assert "secret" not in queue["why_not"]

    workers.leave(api.connections.database, WORKER)
    queue = told(api.client, job)
    assert queue["code"] == "no_worker"
    assert "seen at 20" in queue["why_not"]


def test_a_client_that_asks_again_hears_that_the_reason_has_changed(api: Api) -> None:
    job = submit(api.client, priority=100)
    url = job["links"]["self"]

    def ask(etag: str = "") -> tuple[int, str]:
        answer = api.client.get(url, headers={"If-None-Match": etag})
        return answer.status_code, answer.headers["ETag"]

    _, nobody = ask()
    assert ask(nobody) == (304, nobody)
    tell(api)
    status, free = ask(nobody)
    assert (status, ask(free)) == (200, (304, free))
    tell(api, Condition(WorkerState.READY, busy_slots=1))
    status, full = ask(free)
    assert status == 200
    tell(api, Condition(WorkerState.READY, busy_slots=1))  # a heartbeat
    assert ask(full) == (304, full)


def test_ready_counts_the_workers_and_does_not_need_any(api: Api) -> None:
    def count() -> dict[str, int]:
        answer = api.client.get("/readyz")
        assert (answer.status_code, answer.json["status"]) == (200, "ready")
        return answer.json["workers"]

    assert count() == {"alive": 0, "ready": 0}
    tell(api)
    tell(api, Condition(), identity(2))
    assert count() == {"alive": 2, "ready": 1}
    workers.leave(api.connections.database, WORKER)
    assert count() == {"alive": 1, "ready": 0}
