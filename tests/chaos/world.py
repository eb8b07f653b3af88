"""A cluster of its own, on servers that may be shared: what a scenario takes place in."""

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from socket import AF_UNIX, SOCK_DGRAM, socket
from urllib.parse import urlsplit

from sqlalchemy import select

from impasto.services.client import Client
from impasto.services.client.connection import Backoff
from impasto.shared.database import Database, open_database, schema
from impasto.shared.database.jobs import FAILURES_MAX
from impasto.shared.database.tables import attempts, jobs
from impasto.shared.errors import Unavailable
from impasto.shared.spec import JobSpec
from impasto.shared.states import TERMINAL, State
from impasto.shared.storage import Storage, open_storage
from impasto.shared.wakeups import WakeUps, open_wakeups
from tests.arrange.pictures import paint
from tests.arrange.processes import is_ready
from tests.chaos.chain import undisturbed
from tests.chaos.processes import Process, Zygote, Zygotes
from tests.chaos.tells import TELLS
from tests.servers.postgres import PostgresAt
from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST, free_port
from tests.servers.swift import S3At
from tests.servers.valkey import ValkeyAt

SIZE = (64, 64)  # px: below that there is no coarser size to begin at
CONTENT, STYLE = paint(1, size=SIZE), paint(2, size=SIZE)
LEASE_SECONDS, RECONCILE_SECONDS = 3.0, 0.5
FAST: Mapping[str, str] = {
    "IMPASTO_LEASE_SECONDS": str(LEASE_SECONDS),
    "IMPASTO_HEARTBEAT_SECONDS": "0.5",
    "IMPASTO_CHECKPOINT_SECONDS": "0.4",
    "IMPASTO_PROGRESS_SECONDS": "0.25",
    "IMPASTO_IDLE_SECONDS": "1",
    "IMPASTO_RECONCILE_SECONDS": str(RECONCILE_SECONDS),
    "IMPASTO_SLOTS": "2",
    "IMPASTO_THREADS": "1",
    "IMPASTO_DEVICE": "cpu",
    "IMPASTO_LOG_FORMAT": "json",
    "PYTHONUNBUFFERED": "1",
}
PATIENT = Backoff(longest_seconds=2.0, patience_seconds=90.0)  # longer than any outage of ours

_MIGRATING = threading.Lock()  # Alembic's context is one for the whole process


@dataclass
class World:
    """One service of real processes.

    zygotes: whose forks its processes are, in turns.
    database, storage: reached directly, to look at what happened; the service goes by the proxies.
    """

    zygotes: Iterator[Zygote]
    environment: dict[str, str]
    database: Database
    storage: Storage
    wakeups: WakeUps
    to_postgres: Proxy
    to_valkey: Proxy
    to_swift: Proxy
    is_chain: bool
    api: Process | None = None
    expected: dict[str, str] = field(default_factory=dict)  # by job: the digest of its result
    keys: dict[str, str | None] = field(default_factory=dict)  # by job: what it was submitted with
    assets: tuple[str, str] = ("", "")

    @property
    def url(self) -> str:
        return f"http://{LOCALHOST}:{self.environment['IMPASTO_PORT']}"

    def start(self, role: str, mutant: str | None = None) -> Process:
        zygote = next(self.zygotes)
        return zygote.start(role, self.environment, is_chain=self.is_chain, mutant=mutant)

    def serve(self) -> None:
        """Start the API, and wait until it answers."""
        self.api = self.start("api")
        until(lambda: is_ready(self.url), 30, "the API answers")

    @contextmanager
    def uploads(self) -> Iterator[socket]:
        """Where workers that start from now on tell the key of what they have stored."""
        with tempfile.TemporaryDirectory() as folder, socket(AF_UNIX, SOCK_DGRAM) as uploads:
            address = f"{folder}/uploads"
            uploads.bind(address)
            uploads.settimeout(0.1)
            self.environment[TELLS] = address
            yield uploads

    def client(self) -> Client:
        return Client(self.url, backoff=PATIENT, timeout_seconds=15)

    def upload(self, client: Client) -> None:
        self.assets = client.upload(CONTENT), client.upload(STYLE)

    def spec(self, **fields: object) -> JobSpec:
        """A spec of the two pictures."""
        content, style = self.assets
        document = {"content": content, "styles": [style], "size": 64, "snapshot_every": 0}
        return JobSpec.model_validate({**document, "precision": "float32", **fields})

    def chain(
        self, seed: int, iterations: int, iteration_ms: float = 10, **fields: object
    ) -> JobSpec:
        """A spec for `Chain`."""
        return self.spec(
            seed=seed,
            iterations=iterations,
            optimizer="adam",
            learning_rate=float(iteration_ms),
            content_colors="own",
            finish="none",
            **fields,
        )

    def submit(self, client: Client, spec: JobSpec, key: str) -> str:
        """The job's id; from now on it is owed its picture."""
        job_id = client.submit(spec, idempotency_key=key).id
        self.keys[job_id] = key
        if self.is_chain and job_id not in self.expected:
            self.expected[job_id] = undisturbed(spec, CONTENT, STYLE)
        return job_id

    def rows(self, *columns: str) -> dict[str, dict[str, object]]:
        """Those columns of every job, by id."""
        with self.database.read() as connection:
            found = connection.execute(select(*jobs.c["id", *columns])).mappings()
            return {row["id"]: dict(row) for row in found}

    def attempts(self) -> list[dict[str, object]]:
        """Every attempt's row, in order."""
        query = select(attempts).order_by(attempts.c.job_id, attempts.c.attempt)
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def spared(self) -> set[str]:
        """The workers whose next crash would fail a job, and rightly: it made no progress."""
        rows = self.rows("state", "worker", "failures").values()
        return {
            row["worker"]
            for row in rows
            if row["state"] == State.RUNNING and row["failures"] >= FAILURES_MAX - 1
        }

    def owed(self, job_ids: Iterable[str]) -> int:
        """How many of these have not ended."""
        rows = self.rows("state")
        return sum(job not in rows or rows[job]["state"] not in TERMINAL for job in job_ids)

    def await_ends(self, job_ids: Sequence[str], timeout_seconds: float) -> bool:
        """Whether all of these jobs end within that time."""
        return holds(lambda: self.owed(job_ids) == 0, timeout_seconds)


@contextmanager
def world(
    zygotes: Zygotes,
    postgres: PostgresAt,
    valkey: ValkeyAt,
    swift: S3At,
    *,
    is_chain: bool = True,
    skews: Sequence[float] = (0.0,),
    **variables: str,
) -> Iterator[World]:
    """A world with an API and an empty database; whoever enters starts workers and reconcilers.

    skews: by how much the clocks of its processes are wrong, in turns.
    variables: settings, in place of those of `FAST`.
    Raises NoFaketimeError where clocks cannot be wrong.
    """
    in_turns = itertools.cycle([zygotes.of(skew) for skew in skews])
    with ExitStack() as stack:
        database_url, bucket_url = postgres.database(), swift.bucket()
        stack.callback(postgres.drop, database_url)
        proxies = [
            stack.enter_context(Proxy(urlsplit(url).port))
            for url in (database_url, valkey.url, _endpoint(swift))
        ]
        to_postgres, to_valkey, to_swift = proxies
        broker_url = valkey.fresh()
        database = open_database(database_url)
        stack.callback(database.close)
        with _MIGRATING:
            schema.upgrade(database)
        storage = open_storage(bucket_url)
        storage.prepare()
        aws = swift.environment()
        environment = {
            **FAST,
            **aws,
            "AWS_ENDPOINT_URL_S3": to_swift.url(aws["AWS_ENDPOINT_URL_S3"]),
            "IMPASTO_DATABASE_URL": to_postgres.url(database_url),
            "IMPASTO_BROKER_URL": to_valkey.url(broker_url),
            "IMPASTO_STORAGE_URL": bucket_url,
            "IMPASTO_PORT": str(free_port()),
            **variables,
        }
        here = World(
            in_turns,
            environment,
            database,
            storage,
            open_wakeups(broker_url),
            to_postgres,
            to_valkey,
            to_swift,
            is_chain,
        )
        here.serve()
        with here.client() as client:
            here.upload(client)
        try:
            yield here
        finally:
            for proxy in proxies:
                proxy.heal()
            here.api.end()


def until(what: Callable[[], bool], timeout_seconds: float, name: str) -> None:
    """Wait for something that must come."""
    assert holds(what, timeout_seconds), f"not within {timeout_seconds:.0f} s: {name}"


def holds(what: Callable[[], bool], timeout_seconds: float) -> bool:
    """Whether something comes to be within that time; an outage says nothing either way."""
    end = time.monotonic() + timeout_seconds
    while time.monotonic() < end:
        try:
            if what():
                return True
        except Unavailable:
            pass
        time.sleep(0.05)
    return False


def _endpoint(swift: S3At) -> str:
    return swift.environment().get("AWS_ENDPOINT_URL_S3") or os.environ["AWS_ENDPOINT_URL"]
