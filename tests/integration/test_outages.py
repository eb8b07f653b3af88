"""Everything that the service leans on goes away, and comes back: what clients and jobs see."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from werkzeug.test import TestResponse

from impasto.shared.database import jobs, open_database
from impasto.shared.database.jobs import Job
from impasto.shared.errors import StorageFull
from impasto.shared.settings import Settings
from impasto.shared.states import TERMINAL, State
from impasto.shared.storage import open_storage
from impasto.shared.wakeups import open_wakeups
from impasto.workers.bootstrap import open_context, open_worker
from impasto.workers.presence import Presence
from impasto.workers.worker import Worker
from tests.arrange.api import Api, refused, spec, submit, upload
from tests.arrange.pictures import paint
from tests.arrange.stores import clear, fill
from tests.arrange.timing import wait_until
from tests.arrange.worker import Bench, worker_of
from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresAt
    from tests.servers.swift import S3At
    from tests.servers.valkey import ValkeyAt

# There is much in these for a busy machine: what has no bound takes for ever.
ANSWER_SECONDS = 25  # 8 s: of a connection that does not answer, and of the next one
SUBMIT_SECONDS = 10  # 1.5 s for the wake-up
PICK_UP_SECONDS = 15
IDLE_SECONDS = 0.5
OUTAGE_SECONDS = 60


@dataclass(frozen=True)
class Network:
    """Between the service and what it leans on."""

    database_url: str
    broker_url: str
    storage_url: str
    database: Proxy
    broker: Proxy
    storage: Proxy


@pytest.fixture(scope="module")
def network(postgres: "PostgresAt", valkey: "ValkeyAt", swift: "S3At") -> Iterator[Network]:
    database_url, broker_url, storage_url = postgres.database(), valkey.fresh(), swift.bucket()
    environment = swift.environment()
    endpoint = environment["AWS_ENDPOINT_URL_S3"]
    with (
        pytest.MonkeyPatch.context() as patch,
        Proxy.of(database_url) as database,
        Proxy.of(broker_url) as broker,
        Proxy.of(endpoint) as storage,
    ):
        for name, value in {**environment, "AWS_ENDPOINT_URL_S3": storage.url(endpoint)}.items():
            patch.setenv(name, value)
        yield Network(
            database.url(database_url),
            broker.url(broker_url),
            storage_url,
            database,
            broker,
            storage,
        )
    postgres.drop(database_url)
    swift.drop(storage_url)


@pytest.fixture
def api(network: Network, another_api: Callable[..., Api]) -> Api:
    """One that has no job yet."""
    urls = {name: getattr(network, name) for name in ("database_url", "broker_url", "storage_url")}
    api = another_api(**urls).prepare()
    clear(api.connections.database)
    return api


@pytest.fixture
def bench(network: Network) -> Iterator[Bench]:
    with closing(open_database(network.database_url)) as database:
        bench = Bench(database, fails=True)
        worker = worker_of(database, bench, idle_seconds=IDLE_SECONDS).start()
        yield bench
        assert worker.close(PICK_UP_SECONDS)


def asked_at_once(api: Api, **asks: Callable[..., TestResponse]) -> dict[str, TestResponse]:
    """The answers by name; each asks with a client of its own."""
    with ThreadPoolExecutor() as threads:
        answers = {name: threads.submit(ask, api.app.test_client()) for name, ask in asks.items()}
        return {name: answer.result() for name, answer in answers.items()}


def unavailable(answer: TestResponse, code: str = "unavailable") -> None:
    refused(answer, 503, code)
    assert int(answer.headers["Retry-After"]) > 0


# The database.


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.freeze])
def test_while_the_database_is_away_the_api_says_so_in_time_and_then_serves_again(
    api: Api, network: Network, fault: Callable[[Proxy], None]
) -> None:
    order = spec(api.client)
    job_id = submit(api.client)["id"]

    fault(network.database)
    began = monotonic()
    answers = asked_at_once(
        api,
        listed=lambda client: client.get("/v1/jobs"),
        shown=lambda client: client.get(f"/v1/jobs/{job_id}"),
        submitted=lambda client: client.post("/v1/jobs", json=order),
        cancelled=lambda client: client.post(f"/v1/jobs/{job_id}/cancel"),
        ready=lambda client: client.get("/readyz"),
    )

    assert monotonic() - began < ANSWER_SECONDS
    for answer in answers.values():
        unavailable(answer)
    assert api.client.get("/healthz").status_code == 200

    network.database.heal()
    assert api.client.get("/readyz").status_code == 200
    assert api.client.get(f"/v1/jobs/{job_id}").json["status"] == "queued"
    assert api.client.post("/v1/jobs", json=order).status_code == 202


def test_a_job_that_is_committed_is_answered_though_the_database_goes_away_at_that_moment(
    api: Api, another_api: Callable[..., Api], network: Network
) -> None:
    order, key = spec(api.client), {"Idempotency-Key": "once"}
    with socket.create_server((LOCALHOST, 0)) as broker:
        port = broker.getsockname()[1]
        late = another_api(
            database_url=network.database_url,
            broker_url=f"redis://{LOCALHOST}:{port}/0",
            storage_url=network.storage_url,
        )

        def cut() -> None:
            """A wake-up is sent for what is committed, and only for that."""
            with broker.accept()[0]:
                network.database.cut()

        with ThreadPoolExecutor() as threads:
            cutting = threads.submit(cut)
            answer = late.client.post("/v1/jobs", json=order, headers=key)
            cutting.result()

    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    unavailable(late.client.post("/v1/jobs", json=order, headers=key))

    network.database.heal()
    again = api.client.post("/v1/jobs", json=order, headers=key)
    assert (again.status_code, again.json["id"]) == (200, answer.json["id"])
    assert len(api.client.get("/v1/jobs").json["jobs"]) == 1


@pytest.mark.parametrize("path", ["impasto", "9999999"])
def test_a_job_is_taken_whatever_is_wrong_with_the_brokers_url(
    api: Api, another_api: Callable[..., Api], network: Network, path: str
) -> None:
    """Of a database that no settings would pass, or that the broker has not."""
    late = another_api(database_url=network.database_url, storage_url=network.storage_url)
    url = urlsplit(network.broker_url)._replace(path=f"/{path}").geturl()
    late.app.extensions["impasto"] = replace(late.connections, wakeups=open_wakeups(url))

    assert submit(late.client)["status"] == "queued"
    assert late.client.get("/readyz").status_code == 200


def test_a_worker_works_on_after_an_outage_of_the_database(
    api: Api, network: Network, bench: Bench
) -> None:
    first = submit(api.client)["id"]
    bench.wait_for(first)

    network.database.cut()
    sleep(2 * IDLE_SECONDS)  # the look-out finds nothing
    network.database.heal()
    bench.finish.release(2)

    second = submit(api.client)["id"]
    bench.wait_for(second)
    assert {await_end(api, each).state for each in (first, second)} == {State.FAILED}


# The storage.


def test_while_the_storage_is_away_only_what_needs_it_is_refused(
    api: Api, network: Network
) -> None:
    known = upload(api.client, paint(1))
    order = spec(api.client)

    network.storage.cut()
    answers = asked_at_once(
        api,
        uploaded=lambda client: client.post("/v1/assets", data=paint(99), content_type="image/png"),
        downloaded=lambda client: client.get(f"/v1/assets/{known}/content"),
        ready=lambda client: client.get("/readyz"),
    )

    for answer in answers.values():
        unavailable(answer)
    assert api.client.get("/v1/jobs").status_code == 200
    assert api.client.post("/v1/jobs", json=order).status_code == 202  # its pictures are known

    network.storage.heal()
    assert api.client.get("/readyz").status_code == 200
    assert upload(api.client, paint(99))


def test_a_disk_that_is_full_refuses_pictures_until_it_has_room(
    another_api: Callable[..., Api], small_disk: Path
) -> None:
    api = another_api(storage_url=(small_disk / "objects").as_uri()).prepare()
    filler = fill(small_disk)

    answer = api.client.post("/v1/assets", data=paint(1), content_type="image/png")
    unavailable(answer, "storage_full")
    assert str(small_disk) not in answer.text
    unavailable(api.client.get("/readyz"))
    assert api.stored()[0]["jobs"] == 0

    filler.unlink()
    assert api.client.get("/readyz").status_code == 200
    assert upload(api.client, paint(1))


def test_a_disk_that_fills_up_in_mid_render_costs_time_and_no_failure(
    another_api: Callable[..., Api], small_disk: Path, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path / "home",
        storage_url=(small_disk / "objects").as_uri(),
        alive_file=tmp_path / "alive",
        idle_seconds=0.1,
        threads=1,
    )
    api = another_api(**settings.model_dump(exclude_unset=True)).prepare()
    database = api.connections.database
    context = open_context(settings)
    presence = Presence(database, "test", slots=1, lease_seconds=settings.lease_seconds)
    with closing(context.database), closing(context), closing(presence.start()):
        worker = open_worker(settings, context, presence).start()
        job_id = submit(api.client, iterations=100)["id"]
        wait_until(lambda: jobs.get(database, job_id).iteration > 0, OUTAGE_SECONDS)

        filler = fill(small_disk)
        wait_until(lambda: says_full(worker, settings.alive_file), OUTAGE_SECONDS)
        assert jobs.get(database, job_id).state in {State.QUEUED, State.RUNNING}

        filler.unlink()
        job = await_end(api, job_id)
        assert (job.state, job.failures) == (State.SUCCEEDED, 0)
        assert open_storage(settings.storage_url).get(job.result["key"])
        assert worker.close(5)


# The broker.


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.freeze])
def test_while_the_broker_is_away_jobs_are_taken_and_picked_up_within_seconds(
    api: Api, network: Network, bench: Bench, fault: Callable[[Proxy], None]
) -> None:
    bench.finish.release(2)
    submit(api.client)  # it has a connection now
    order = spec(api.client)

    fault(network.broker)
    began = monotonic()
    answer = api.client.post("/v1/jobs", json=order)
    assert answer.status_code == 202
    assert monotonic() - began < SUBMIT_SECONDS
    ready = api.client.get("/readyz")
    assert (ready.status_code, ready.json["broker"] == "ok") == (200, False)
    bench.wait_for(answer.json["id"])
    assert monotonic() - began < SUBMIT_SECONDS + PICK_UP_SECONDS

    network.broker.heal()
    assert api.client.get("/readyz").json["broker"] == "ok"


def says_full(worker: Worker, alive_file: Path) -> bool:
    worker.work()
    return alive_file.read_text().startswith(StorageFull.code)


def await_end(api: Api, job_id: str) -> Job:
    database = api.connections.database
    wait_until(lambda: jobs.get(database, job_id).state in TERMINAL, OUTAGE_SECONDS)
    return jobs.get(database, job_id)
