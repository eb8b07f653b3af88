"""Connections, transactions and the clock, on both databases; and one that goes away."""

import datetime
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    delete,
    func,
    insert,
    select,
    update,
)

from impasto.shared.database import Database, jobs, open_database, schema, tables
from impasto.shared.database import postgres as impatient
from impasto.shared.database.clock import Instant, now
from impasto.shared.errors import InvalidSetting, StorageFull, Unavailable
from tests.arrange.jobs import claim, submit
from tests.arrange.stores import database_at, fill
from tests.servers.postgres import Postgres, PostgresAt
from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST, Server, free_port

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


def test_a_connection_that_is_in_use_when_all_are_closed_is_closed_when_it_is_given_back(
    bare_database: Database,
) -> None:
    with bare_database.read() as connection:
        driver = connection.connection.driver_connection
        bare_database.close()
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1

    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driver.execute("SELECT 1")


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


# What an operator says of a connection.


def of_postgres(postgres: PostgresAt, query: str) -> Iterator[Database]:
    url = postgres.database()
    with closing(open_database(f"{url}?{query}")) as database:
        yield database
    postgres.drop(url)


def limits(database: Database) -> list[str]:
    names = "statement_timeout", "idle_in_transaction_session_timeout"
    with database.read() as connection:
        return [setting(connection, name) for name in names]


def test_tables_are_made_in_the_schema_that_the_urls_options_name(postgres: PostgresAt) -> None:
    for database in of_postgres(postgres, "options=-csearch_path%3Dimpasto"):
        with database.write() as connection:
            connection.exec_driver_sql("CREATE SCHEMA impasto")
        schema.upgrade(database)

        with database.read() as connection:
            places = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename = 'jobs'"
            assert list(connection.exec_driver_sql(places).scalars()) == ["impasto"]
        assert limits(database) == ["4s", "5s"]


def test_options_of_the_environment_are_kept_too(
    postgres: PostgresAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c application_name=theirs -c statement_timeout=47s")
    for database in of_postgres(postgres, ""):
        assert limits(database) == ["47s", "5s"]
        with database.read() as connection:
            assert setting(connection, "application_name") == "theirs"


@pytest.mark.parametrize("seconds", [8, 0])
def test_a_statement_may_take_as_long_as_the_urls_options_say(
    postgres: PostgresAt, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatient.Connection, "answer_seconds", 0.3)
    for database in of_postgres(postgres, f"options=-cstatement_timeout%3D{seconds}s"):
        with database.read() as connection:
            connection.execute(select(func.pg_sleep(0.6)))


def test_parameters_of_the_url_are_kept(postgres: PostgresAt) -> None:
    given = {"connect_timeout": "9", "keepalives_idle": "7", "keepalives_count": "2"}
    for database in of_postgres(postgres, "&".join(f"{k}={v}" for k, v in given.items())):
        with database.read() as connection:
            used = connection.connection.driver_connection.info.get_parameters()
        assert given.items() <= used.items()


@pytest.mark.parametrize("query", ["pool_size=5", "connect_timeout=soon"])
def test_a_parameter_that_means_nothing_is_refused_before_it_connects(query: str) -> None:
    with pytest.raises(InvalidSetting, match=r"IMPASTO_DATABASE_URL.*(pool_size|soon).*accepted"):
        open_database(f"postgresql+psycopg://u:secret@{LOCALHOST}:1/n?{query}")


@pytest.mark.parametrize("timeout", ["", "?timeout=30"])
def test_a_file_that_is_locked_while_it_is_opened_is_waited_for(
    tmp_path: Path, timeout: str
) -> None:
    """The switch to WAL is refused at once, whatever SQLite's own patience is."""
    path = tmp_path / "impasto.db"
    with closing(sqlite3.connect(path, check_same_thread=False)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.5, holder.rollback)
        release.start()
        with closing(open_database(f"sqlite:///{path}{timeout}")) as database:
            note(database, n=1)
            assert read(database, notes.c.n) == 1
        release.join()


def test_a_file_that_stays_locked_is_out_of_reach(tmp_path: Path) -> None:
    path = tmp_path / "impasto.db"
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with (
            closing(open_database(f"sqlite:///{path}?timeout=0.2")) as database,
            pytest.raises(Unavailable, match="locked"),
        ):
            database.check()


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
    with database_at(server.database()) as database:
        job = submit(database)

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
        assert claim(database).id == job.id


@pytest.fixture
def proxied(postgres: PostgresAt) -> Iterator[tuple[Database, Database, Proxy]]:
    """One database of Postgres with the table of notes: by way of a proxy, directly; the proxy."""
    url = postgres.database()
    with (
        Proxy.of(url) as proxy,
        closing(open_database(proxy.url(url))) as database,
        closing(open_database(url)) as direct,
    ):
        note(direct, n=1)
        yield database, direct, proxy
    postgres.drop(url)


@pytest.mark.parametrize("fault", [Proxy.cut, Proxy.freeze])
def test_a_postgres_that_does_not_answer_holds_nobody_and_is_used_again(
    proxied: tuple[Database, Database, Proxy],
    fault: Callable[[Proxy], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(impatient.Connection, "answer_seconds", 0.5)
    database, direct, proxy = proxied
    database.check()  # it has a connection now

    fault(proxy)
    began = monotonic()
    with pytest.raises(Unavailable):
        change(database, n=2)
    assert monotonic() - began < 15  # 3.5 s for an answer and a connection; else for ever

    proxy.heal()
    assert read(direct, notes.c.n) == 1
    change(database, n=3)
    assert read(direct, notes.c.n) == 3


def test_a_postgres_that_hangs_up_is_called_again(
    proxied: tuple[Database, Database, Proxy],
) -> None:
    database, _, proxy = proxied
    database.check()

    proxy.half_close()

    database.check()


def test_who_vanishes_inside_a_transaction_is_told_and_keeps_its_locks_for_seconds_only(
    proxied: tuple[Database, Database, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatient.Connection, "answer_seconds", 0.5)
    database, direct, proxy = proxied

    def vanish() -> None:
        with database.write() as connection:
            connection.execute(update(notes).values(n=2))
            proxy.freeze()
            connection.execute(update(notes).values(n=3))

    with pytest.raises(Unavailable, match=r"no answer within 0\.5 s"):
        vanish()

    monkeypatch.undo()
    began = monotonic()
    while True:
        with suppress(Unavailable):  # it was the server that gave up
            change(direct, n=4)
            break
        assert monotonic() - began < 30  # 5 s; else for ever
    assert read(direct, notes.c.n) == 4


def test_only_what_alters_the_database_may_take_long(
    proxied: tuple[Database, Database, Proxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impatient.Connection, "answer_seconds", 0.3)
    database, _, _ = proxied
    for _ in range(2):
        with database.alter() as connection:
            connection.execute(select(func.pg_sleep(0.6)))
            limits = "statement_timeout", "idle_in_transaction_session_timeout"
            assert [setting(connection, name) for name in limits] == ["0", "0"]

        began = monotonic()
        with pytest.raises(Unavailable), database.write() as connection:
            connection.execute(select(func.pg_sleep(30)))
        assert monotonic() - began < 15  # 0.3 s
    with database.read() as connection:
        assert [setting(connection, name) for name in limits] == ["4s", "5s"]


def test_a_postgres_that_may_only_be_read_is_out_of_reach(
    proxied: tuple[Database, Database, Proxy],
) -> None:
    """As one that was the primary until a fail-over."""
    _, direct, _ = proxied

    def change_it() -> None:
        with direct.write() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.execute(update(notes).values(n=2))

    with pytest.raises(Unavailable, match="read-only"):
        change_it()


def test_a_database_whose_disk_is_full_says_so_and_loses_nothing(small_disk: Path) -> None:
    with database_at(f"sqlite:///{small_disk / 'impasto.db'}") as database:
        job = submit(database)
        filler = fill(small_disk)

        def submit_many() -> None:
            for _ in range(1000):
                submit(database)

        with pytest.raises(StorageFull, match="full"):
            submit_many()
        assert jobs.get(database, job.id) == job

        filler.unlink()
        more = submit(database)
        assert claim(database).id == job.id
        assert jobs.get(database, more.id) == more


A_MOMENT = datetime.timedelta(seconds=1)  # between two looks at the clock in one statement


def asks(database: Database) -> list[Callable[[], object]]:
    """Something of each kind that one may ask of a database."""
    return [
        database.check,
        lambda: jobs.get(database, "1"),
        lambda: submit(database),
        lambda: jobs.claim(database, worker="w1", lease_seconds=60),
        lambda: schema.check(database),
        lambda: schema.upgrade(database),
    ]


def note(database: Database, **values: object) -> None:
    """A table with one row."""
    with database.write() as connection:
        notes.create(connection)
        connection.execute(insert(notes).values(**values))


def change(database: Database, n: int) -> None:
    with database.write() as connection:
        connection.execute(update(notes).values(n=n))


def setting(connection: Connection, name: str) -> str:
    """What is in force in a session of Postgres."""
    return connection.exec_driver_sql(f"SHOW {name}").scalar_one()


def read(database: Database, what: object) -> object:
    with database.read() as connection:
        return connection.execute(select(what)).scalar_one()
