"""The database by way of PgBouncer in transaction mode, which has one connection for everybody."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import func, select

from impasto.shared.database import Database, jobs, open_database, schema
from impasto.shared.database.leader import hold_leadership
from impasto.shared.errors import Unavailable
from impasto.shared.states import State
from tests.arrange.jobs import claim, submit
from tests.arrange.stores import database_at
from tests.arrange.timing import wait_until
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresAt
from tests.servers.server import UnavailableError

SOON_SECONDS = 30


@pytest.fixture(scope="module")
def pooler(postgres: PostgresAt) -> Iterator[PgBouncer]:
    try:
        server = PgBouncer(postgres.url)
    except UnavailableError as error:
        pytest.skip(f"no PgBouncer on this machine: {error}")
    with server:
        yield server


@pytest.fixture
def url(postgres: PostgresAt, pooler: PgBouncer) -> Iterator[str]:
    """A fresh database, by way of the pooler."""
    direct = postgres.database()
    yield pooler.url(direct)
    postgres.drop(direct)


@pytest.fixture
def pooled(url: str) -> Iterator[Database]:
    with database_at(url) as database:
        schema.check(database)
        yield database


def test_jobs_live_their_lives_behind_a_pooler(pooled: Database, url: str) -> None:
    """Many times each, by several clients: more than any driver waits before it prepares."""

    def live(worker: str) -> None:
        with closing(open_database(url)) as database:
            for _ in range(8):
                submit(database)
                job = claim(database, worker=worker)
                jobs.add_snapshot(database, job.claim, 1, f"{job.id}/1")
                jobs.succeed(database, job.claim, {"key": job.id})
                assert jobs.view(database, job.id).job.state == State.SUCCEEDED

    with ThreadPoolExecutor(3) as threads:
        for done in [threads.submit(live, f"w{n}") for n in range(3)]:
            done.result()

    assert len(jobs.list_jobs(pooled, states=[State.SUCCEEDED])) == 24


def test_a_transactions_limits_hold_behind_a_pooler_and_are_left_to_nobody(
    pooled: Database, url: str
) -> None:
    with pooled.read() as connection:
        shown = [
            connection.exec_driver_sql(f"SHOW {name}").scalar_one()
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as stranger:
        (left,) = stranger.execute("SHOW statement_timeout").fetchone()

    assert shown == ["4s", "5s"]
    assert left == "0"


def test_a_statement_that_takes_too_long_is_given_up_behind_a_pooler(pooled: Database) -> None:
    def dawdle() -> None:
        with pooled.write() as connection:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '100ms'")
            connection.execute(select(func.pg_sleep(SOON_SECONDS)))

    with pytest.raises(Unavailable, match="statement timeout"):
        dawdle()
    pooled.check()


@pytest.fixture
def roomy(postgres: PostgresAt) -> Iterator[tuple[Database, Database]]:
    """Two clients of one database, by way of a pooler with a connection for each transaction."""
    direct = postgres.database()
    try:
        server = PgBouncer(postgres.url, pool_size=4)
    except UnavailableError as error:
        pytest.skip(f"no PgBouncer on this machine: {error}")
    with (
        server,
        closing(open_database(server.url(direct))) as one,
        closing(open_database(server.url(direct))) as other,
    ):
        yield one, other
    postgres.drop(direct)


def test_one_leads_at_a_time_behind_a_pooler(roomy: tuple[Database, Database]) -> None:
    for one, other in (roomy, roomy[::-1]) * 3:
        with (
            hold_leadership(one, "storage", patience_seconds=60) as is_ours,
            hold_leadership(other, "storage", patience_seconds=60) as is_theirs,
        ):
            assert (is_ours, is_theirs) == (True, False)


def test_a_leader_that_is_frozen_loses_its_turn_behind_a_pooler(
    roomy: tuple[Database, Database],
) -> None:
    def is_free() -> bool:
        with hold_leadership(roomy[1], "storage", patience_seconds=60) as is_ours:
            return is_ours

    with hold_leadership(roomy[0], "storage", patience_seconds=0.2) as is_ours:
        assert is_ours
        wait_until(is_free, SOON_SECONDS)
    assert is_free()
