"""Connections, transactions and the clock, on both databases; and one that goes away."""

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, delete, insert, select, update

from shared.database import Database, jobs, open_database, schema, tables
from shared.database.clock import Instant, now
from shared.errors import Unavailable
from shared.spec import JobSpec
from tests.servers.postgres import Postgres
from tests.servers.server import LOCALHOST, Server, free_port

ASSET = "a" * 64
SPEC = JobSpec(content=ASSET, styles=[ASSET])
CANVAS = (512, 384)

notes = Table("notes", MetaData(), Column("n", Integer), Column("at", Instant))


# Transactions.


def test_a_write_that_fails_leaves_nothing_behind(bare_database: Database) -> None:
    note(bare_database, n=1)

    def change_your_mind() -> None:
        with bare_database.write() as connection:
            connection.execute(update(notes).values(n=2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_your_mind()

    assert read(bare_database, notes.c.n) == 1


def test_nobody_sees_what_is_not_committed_and_nobody_waits_for_it(bare_database: Database) -> None:
    note(bare_database, n=1)

    with bare_database.write() as connection:
        connection.execute(update(notes).values(n=2))
        assert read(bare_database, notes.c.n) == 1

    assert read(bare_database, notes.c.n) == 2


def test_writers_that_read_first_wait_for_each_other(bare_database: Database) -> None:
    note(bare_database, n=0)

    def count_to_ten() -> None:
        for _ in range(10):
            with bare_database.write() as connection:
                n = connection.execute(select(notes.c.n).with_for_update()).scalar_one()
                connection.execute(update(notes).values(n=n + 1))

    with ThreadPoolExecutor() as threads:
        for done in [threads.submit(count_to_ten) for _ in range(4)]:
            done.result()

    assert read(bare_database, notes.c.n) == 40


# The clock.


def test_the_clock_is_read_in_utc_and_counts_seconds(bare_database: Database) -> None:
    with bare_database.read() as connection:
        present, later, earlier = connection.execute(select(now(), now(90.25), now(-3600))).one()

    assert present.utcoffset() == datetime.timedelta(0)
    assert abs(later - present - datetime.timedelta(seconds=90.25)) < A_MOMENT
    assert abs(present - earlier - datetime.timedelta(hours=1)) < A_MOMENT


def test_the_clock_moves_on_inside_a_transaction(bare_database: Database) -> None:
    with bare_database.write() as connection:
        moments = {connection.execute(select(now())).scalar_one() for _ in range(200)}

    assert len(moments) > 1


def test_the_clock_stamps_rows_and_is_compared_with_them(bare_database: Database) -> None:
    note(bare_database, at=now())

    assert read(bare_database, notes.c.at <= now())
    assert not read(bare_database, notes.c.at <= now(-60))
    assert read(bare_database, notes.c.at <= now(60))


def test_a_moment_of_any_zone_is_kept_in_utc(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")  # what a session of Postgres would answer in
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=tokyo)
    with closing(open_database(database_url)) as database:
        note(database, at=moment)

        kept = read(database, notes.c.at)

    assert kept == moment
    assert kept.utcoffset() == datetime.timedelta(0)


# Out of reach.


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_database_that_is_not_there_is_out_of_reach(kind: str, tmp_path: Path) -> None:
    nowhere = {
        "sqlite": f"sqlite:///{tmp_path}",  # a folder
        "postgres": f"postgresql+psycopg://somebody:secret@{LOCALHOST}:{free_port()}/none",
    }
    with closing(open_database(nowhere[kind])) as database:
        for ask in asks(database):
            with pytest.raises(Unavailable, match=r"^database out of reach: ") as caught:
                ask()
            assert "secret" not in str(caught.value)


def test_a_database_serves_again_after_its_server_was_killed(
    start: Callable[[type[Server]], Server],
) -> None:
    server = start(Postgres)
    with closing(open_database(server.database())) as database:
        schema.upgrade(database)
        job, _ = jobs.submit(database, SPEC, CANVAS)

        def be_interrupted() -> None:
            with database.write() as connection:
                connection.execute(delete(tables.jobs))
                server.stop(hard=True)
                connection.execute(delete(tables.jobs))

        with pytest.raises(Unavailable):
            be_interrupted()
        for ask in asks(database):
            with pytest.raises(Unavailable):
                ask()

        server.start()
        database.check()
        assert jobs.get(database, job.id) == job

        server.restart(hard=True)  # while nobody asks
        assert jobs.get(database, job.id) == job
        assert jobs.claim(database, worker="w1", lease_seconds=60) is not None


A_MOMENT = datetime.timedelta(seconds=1)  # between two looks at the clock in one statement


def asks(database: Database) -> list[Callable[[], object]]:
    """Something of each kind that one may ask of a database."""
    return [
        database.check,
        lambda: jobs.get(database, "1"),
        lambda: jobs.submit(database, SPEC, CANVAS),
        lambda: jobs.claim(database, worker="w1", lease_seconds=60),
        lambda: schema.check(database),
        lambda: schema.upgrade(database),
    ]


def note(database: Database, **values: object) -> None:
    """A table with one row."""
    with database.write() as connection:
        notes.create(connection)
        connection.execute(insert(notes).values(**values))


def read(database: Database, what: object) -> object:
    with database.read() as connection:
        return connection.execute(select(what)).scalar_one()
