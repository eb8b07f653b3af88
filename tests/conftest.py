"""What any test may ask for: real servers, and the URLs of both stacks for the contract suites.

Each server starts when a test first asks for it and serves until the run ends, which then tells
who served. These variables name other servers instead: IMPASTO_TEST_DATABASE_URL (a user that
may create databases), IMPASTO_TEST_BROKER_URL (is flushed) and IMPASTO_TEST_S3_URL
(`s3://bucket/prefix`, reached as the usual AWS variables say).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from tests.servers.server import LOCALHOST, Server, UnavailableError

if TYPE_CHECKING:  # what they import takes two seconds, which most tests can do without
    from impasto.shared.database import Database
    from impasto.shared.pictures.pool import Decoders
    from tests.servers.postgres import PostgresAt
    from tests.servers.swift import S3At
    from tests.servers.valkey import ValkeyAt

pytest.register_assert_rewrite("tests.arrange")  # what an assert there fails on is told, too

SERVED = pytest.StashKey[list[str]]()  # the lines of the summary

S = TypeVar("S", bound=Server)


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "how often tests of what happens at the same moment repeat it"
    parser.addoption("--rounds", type=int, default=1, metavar="N", help=told)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> "Iterator[PostgresAt]":
    yield from _serve(
        request, "postgres:Postgres", "postgres:PostgresAt", "IMPASTO_TEST_DATABASE_URL"
    )


@pytest.fixture(scope="session")
def valkey(request: pytest.FixtureRequest) -> "Iterator[ValkeyAt]":
    yield from _serve(request, "valkey:Valkey", "valkey:ValkeyAt", "IMPASTO_TEST_BROKER_URL")


@pytest.fixture(scope="session")
def swift(request: pytest.FixtureRequest) -> "Iterator[S3At]":
    yield from _serve(request, "swift:Swift", "swift:S3At", "IMPASTO_TEST_S3_URL")


@pytest.fixture(scope="session")
def decoders() -> "Iterator[Decoders]":
    """Children that decode, kept for all tests that do not spoil them."""
    from impasto.shared.pictures.pool import Decoders

    with Decoders() as decoders:
        yield decoders


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Callable[[type[S]], S]]:
    """`start(Postgres)` gives a test a server of its own, to stop, freeze and kill."""
    with ExitStack() as own:
        yield lambda kind: own.enter_context(closing(_start(kind, request.config)))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 4 MiB: what is written beyond fails as on any disk that is full."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "impasto", str(place)]
    if (
        sys.platform != "linux"
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("only root of Linux may make a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of either kind."""
    with _database_url(request, tmp_path) as url:
        yield url


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def kept_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[Database]":
    """One of either kind, for all tests: Postgres takes longer to make one than most tests do."""
    from tests.arrange.stores import database_at

    folder = tmp_path_factory.mktemp("database")
    with _database_url(request, folder) as url, database_at(url) as database:
        yield database


@pytest.fixture(params=["file", "s3"])
def storage_url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """An empty storage of either kind; the environment leads to the S3 one."""
    if request.param == "file":
        yield (tmp_path / "storage").as_uri()
        return
    server: S3At = request.getfixturevalue("swift")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    url = server.bucket()
    yield url
    server.drop(url)


@pytest.fixture(params=["memory", "redis"])
def broker_url(request: pytest.FixtureRequest) -> str:
    """An empty broker of either kind."""
    if request.param == "redis":
        server: ValkeyAt = request.getfixturevalue("valkey")
        return server.fresh()
    return "memory://"


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SERVED] = []
    for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
        if signal.getsignal(number) == signal.SIG_IGN:
            # As under `nohup` and in a shell's background. A handler and not SIG_IGN, which the
            # processes that tests start would inherit.
            signal.signal(number, lambda *_: None)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash[SERVED]:
        terminalreporter.section("servers")
        for line in lines:
            terminalreporter.line(line)


@contextmanager
def _database_url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'impasto.db'}"
        return
    server: PostgresAt = request.getfixturevalue("postgres")
    url = server.database()
    yield url
    server.drop(url)


def _serve(request: pytest.FixtureRequest, ours: str, theirs: str, variable: str) -> Iterator[Any]:
    """Whom the variable names, or else one of ours; the summary will tell."""
    served = request.config.stash[SERVED]
    if url := os.environ.get(variable):
        server = resolve_name(f"tests.servers.{theirs}")(url)
        served.append(f"{server.version()}, named by {variable}")
        yield server
        return
    kind = resolve_name(f"tests.servers.{ours}")
    with closing(_start(kind, request.config)) as server:
        served.append(
            f"{server.version()}, ours at {LOCALHOST}:{server.port},"
            f" started in {server.start_seconds:.1f} s"
        )
        yield server


def _start(kind: type[S], config: pytest.Config) -> S:
    """A server of ours. Where the platform has none, skip the test by name; in CI, fail it."""
    try:
        return kind().start()
    except UnavailableError as error:
        missing = f"no {kind.__name__.lower()} on this platform: {error}"
    if missing not in config.stash[SERVED]:
        config.stash[SERVED].append(missing)
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
