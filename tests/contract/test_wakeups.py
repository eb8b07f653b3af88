"""Wake-ups within a process, between processes, and while a broker is out of order."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis
from prometheus_client import REGISTRY

from impasto.shared.errors import InvalidSetting
from impasto.shared.wakeups import WakeUps, open_wakeups
from impasto.shared.wakeups.celery import celery_app
from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST, Server, free_port
from tests.servers.tls import Authority, Tls
from tests.servers.valkey import Valkey

if TYPE_CHECKING:
    from tests.servers.valkey import ValkeyAt

OUTAGE_SECONDS = 1.5  # Celery looks at its connections once a second
FREEZE_SECONDS = 2  # longer than anybody waits for an answer
PICK_UP_SECONDS = 15  # whoever does not hear again does not in an hour either
BRIEF_SECONDS = 10  # 1.5 s, and much for a busy machine
SOON_SECONDS = 30  # on the slowest machine; milliseconds are usual

Start = Callable[[type[Server]], Server]


# Within one process and between several.


@pytest.fixture
def wakeups(broker_url: str) -> WakeUps:
    return open_wakeups(broker_url)


@pytest.fixture
def wait_for_a_ring(
    broker_url: str, wakeups: WakeUps, listeners: "Listeners"
) -> Callable[[], object]:
    """Returns once a worker was woken, and lets it wait for the next wake-up."""
    if broker_url == "memory://":
        wake_ups = threading.Semaphore(0)
        wakeups.subscribe(wake_ups.release)
        return lambda: wake_ups.acquire(timeout=SOON_SECONDS) or pytest.fail("nothing was heard")
    listeners.start(broker_url)
    return lambda: listeners.let_go(listeners.wait_for_a_ring())


def test_a_wake_up_wakes_a_worker_each_time(
    wakeups: WakeUps, wait_for_a_ring: Callable[[], object]
) -> None:
    for _ in range(3):
        assert wakeups.notify()
        wait_for_a_ring()


def test_many_threads_may_notify_at_once(
    wakeups: WakeUps, wait_for_a_ring: Callable[[], object]
) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: wakeups.notify(), range(40)))

    for _ in range(40):
        wait_for_a_ring()


def test_nothing_is_wrong_with_a_broker_that_answers(wakeups: WakeUps) -> None:
    assert wakeups.check() is None


def test_whoever_subscribed_hears_a_wake_up_that_reaches_nobody_else() -> None:
    wakeups = open_wakeups(f"redis://{LOCALHOST}:{free_port()}/0")
    heard = threading.Event()
    wakeups.subscribe(heard.set)

    assert wakeups.notify() is False
    assert heard.is_set()


def test_a_subscriber_that_fails_is_no_error_of_the_one_who_rings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise RuntimeError("can't start new thread")

    wakeups = open_wakeups("memory://")
    wakeups.subscribe(fail)
    before = unsent()

    assert wakeups.notify() is False
    assert "wake-up not sent: can't start new thread" in caplog.text
    assert unsent() == before + 1


def unsent() -> float:
    return REGISTRY.get_sample_value("impasto_wakeups_unsent_total")


# Between processes.


@pytest.fixture
def listeners() -> "Iterator[Listeners]":
    with closing(Listeners()) as listeners:
        yield listeners


def test_a_wake_up_before_there_is_a_worker_is_heard(
    valkey: "ValkeyAt", listeners: "Listeners"
) -> None:
    url = valkey.fresh()
    assert open_wakeups(url).notify()

    listeners.start(url)

    listeners.wait_for_a_ring()


def test_a_busy_worker_leaves_the_wake_ups_to_an_idle_one(
    valkey: "ValkeyAt", listeners: "Listeners"
) -> None:
    url = valkey.fresh()
    wakeups = open_wakeups(url)
    listeners.start(url, count=2)
    wakeups.notify()
    busy = listeners.wait_for_a_ring()

    for _ in range(8):
        wakeups.notify()
        idle = listeners.wait_for_a_ring()
        assert idle != busy
        listeners.let_go(idle)


def test_a_worker_hears_again_after_the_broker_was_killed(
    start: Start, listeners: "Listeners"
) -> None:
    server = start(Valkey)
    url = server.fresh()
    wakeups = open_wakeups(url)
    listeners.start(url)

    server.restart(hard=True)  # while the worker waits
    assert wakeups.notify()
    busy = listeners.wait_for_a_ring()
    server.stop(hard=True)  # while it works
    listeners.let_go(busy)
    sleep(OUTAGE_SECONDS)
    server.start()

    assert wakeups.notify()
    listeners.wait_for_a_ring()


def flush(server: Valkey, _: Proxy) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


def freeze(server: Valkey, _: Proxy) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    sleep(FREEZE_SECONDS)
    os.kill(server.pid, signal.SIGCONT)


def cut(_: Valkey, proxy: Proxy) -> None:
    proxy.cut()
    sleep(OUTAGE_SECONDS)
    proxy.heal()


def half_close(_: Valkey, proxy: Proxy) -> None:
    proxy.half_close()
    sleep(
        OUTAGE_SECONDS
    )  # until the worker sees it, the broker sends wake-ups to a closed connection


def test_a_worker_hears_again_within_seconds_whatever_happened_to_the_broker(
    start: Start, listeners: "Listeners"
) -> None:
    server = start(Valkey)
    with Proxy.of(server.url) as proxy:
        url = proxy.url(server.url)
        wakeups = open_wakeups(url)
        listeners.start(url)
        for happen in (flush, freeze, cut, half_close):
            happen(server, proxy)

            began = monotonic()
            assert wakeups.notify(), happen
            listeners.let_go(listeners.wait_for_a_ring())
            assert monotonic() - began < PICK_UP_SECONDS, happen


def test_a_broker_is_called_at_a_steady_pace_however_long_it_is_away() -> None:
    app = celery_app(f"redis://{LOCALHOST}:{free_port()}/0")
    pauses = []

    class Enough(Exception):
        pass

    def hear(_: Exception, pause: float) -> None:
        pauses.append(pause)
        if len(pauses) == 2:
            raise Enough

    with app.connection_for_read() as connection, suppress(Enough):
        connection.ensure_connection(hear)

    assert max(pauses) <= 2


def test_a_wake_up_survives_the_broker(start: Start, listeners: "Listeners") -> None:
    server = start(Valkey)
    assert open_wakeups(server.url).notify()

    server.restart()

    listeners.start(server.url)
    listeners.wait_for_a_ring()


class Listeners:
    """Worker processes, which stay busy from each wake-up until they are released."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self._said: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()

    def start(self, broker_url: str, *, count: int = 1) -> None:
        """Return once so many listen."""
        for _ in range(count):
            process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("listener.py"), broker_url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            reader = threading.Thread(target=self._read, args=(len(self._processes), process))
            self._processes.append(process)
            self._readers.append(reader)
            reader.start()
        for _ in range(count):
            _, said = self._said.get(timeout=SOON_SECONDS)
            assert said == "ready"

    def wait_for_a_ring(self) -> int:
        """The number of the one that heard it."""
        number, said = self._said.get(timeout=SOON_SECONDS)
        assert said == "woken"
        return number

    def let_go(self, number: int) -> None:
        self._processes[number].stdin.write("\n")
        self._processes[number].stdin.flush()

    def close(self) -> None:
        for process, reader in zip(self._processes, self._readers, strict=True):
            process.kill()
            process.communicate()
            reader.join()

    def _read(self, number: int, process: subprocess.Popen[str]) -> None:
        for line in process.stdout:
            self._said.put((number, line.rstrip()))
        self._said.put((number, "gone"))


# Out of order.


@contextmanager
def nobody(_: Start) -> Iterator[str]:
    yield f"redis://{LOCALHOST}:{free_port()}/0"


@contextmanager
def silent(_: Start) -> Iterator[str]:
    """Accepts, and never answers."""
    with socket.create_server((LOCALHOST, 0)) as server:
        yield f"redis://{LOCALHOST}:{server.getsockname()[1]}/0"


@contextmanager
def unknown_host(_: Start) -> Iterator[str]:
    yield "redis://broker.invalid:6379/0"


@contextmanager
def wrong_password(start: Start) -> Iterator[str]:
    yield f"redis://:wrong@{LOCALHOST}:{start(Valkey).port}/0"


@contextmanager
def full(start: Start) -> Iterator[str]:
    """Answers, and takes no more."""
    url = start(Valkey).url
    with redis.Redis.from_url(url) as client:
        client.config_set("maxmemory", 1)
    yield url


@pytest.mark.parametrize("broker", [nobody, silent, unknown_host, wrong_password, full])
def test_a_wake_up_that_cannot_be_sent_is_logged_and_holds_nobody_up(
    broker: Callable[..., Iterator[str]], start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    with broker(start) as url:
        wakeups = open_wakeups(url)
        for _ in range(2):
            caplog.clear()
            began = monotonic()
            assert wakeups.notify() is False
            assert monotonic() - began < BRIEF_SECONDS
            assert "wake-up not sent: " in caplog.text


@pytest.mark.parametrize("broker", [nobody, silent, unknown_host, wrong_password])
def test_what_is_wrong_with_a_broker_is_soon_reported(
    broker: Callable[..., Iterator[str]], start: Start
) -> None:
    with broker(start) as url:
        began = monotonic()
        assert open_wakeups(url).check()
        assert monotonic() - began < BRIEF_SECONDS


def test_a_broker_that_comes_back_is_rung_again(start: Start) -> None:
    server = start(Valkey)
    wakeups = open_wakeups(server.url)
    assert wakeups.notify()
    server.stop(hard=True)
    assert not wakeups.notify()

    server.start()

    assert wakeups.notify()
    assert wakeups.check() is None


# By TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("trusted"))


@pytest.fixture
def secured(valkey: "ValkeyAt", authority: Authority) -> Iterator[tuple[Tls, str]]:
    """TLS in front of the broker, by our own CA, and the URL without the CA."""
    parts = urlsplit(valkey.fresh())
    with Tls(parts.port, authority.context(LOCALHOST)) as tls:
        yield tls, f"rediss://:{parts.password}@{LOCALHOST}:{tls.port}{parts.path}"


def test_a_wake_up_and_its_worker_trust_the_ca_that_the_url_names(
    secured: tuple[Tls, str], authority: Authority, listeners: "Listeners"
) -> None:
    tls, url = secured
    url += f"?ssl_ca_certs={authority.path}"
    wakeups = open_wakeups(url)
    listeners.start(url)

    assert wakeups.check() is None
    assert wakeups.notify()
    listeners.wait_for_a_ring()
    assert b"AUTH" in tls.heard


@pytest.mark.parametrize("query", ["", "?ssl_ca_certs={other}", "?ssl_cert_reqs=required"])
def test_a_broker_whose_certificate_is_not_trusted_hears_no_password(
    secured: tuple[Tls, str], query: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls, url = secured
    wakeups = open_wakeups(url + query.format(other=Authority(tmp_path).path))

    began = monotonic()
    assert wakeups.notify() is False
    assert "certificate verify failed" in caplog.text
    assert "ssl_ca_certs=PATH" in wakeups.check()
    assert monotonic() - began < 6
    assert tls.heard == b""


def test_a_worker_says_that_it_does_not_trust_its_broker(secured: tuple[Tls, str]) -> None:
    """And sends it nothing, however often it tries."""
    tls, url = secured
    listener = Path(__file__).with_name("listener.py")
    with subprocess.Popen(
        [sys.executable, listener, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        telling = ("certificate verify failed", "ready")
        said = next(line for line in worker.stdout if any(it in line for it in telling))
        worker.kill()
        worker.stdout.read()

    assert "certificate verify failed" in said
    assert tls.heard == b""


def test_a_certificate_of_another_name_is_refused(valkey: "ValkeyAt", authority: Authority) -> None:
    parts = urlsplit(valkey.fresh())
    with Tls(parts.port, authority.context("elsewhere.example")) as tls:
        url = f"rediss://:{parts.password}@{LOCALHOST}:{tls.port}/0?ssl_ca_certs={authority.path}"

        assert "IP address mismatch" in open_wakeups(url).check()
        assert tls.heard == b""
        assert open_wakeups(f"{url}&ssl_check_hostname=false").check() is None


def test_any_certificate_is_taken_only_where_the_url_says_so(secured: tuple[Tls, str]) -> None:
    _, url = secured

    assert open_wakeups(f"{url}?ssl_cert_reqs=none").check() is None
    assert open_wakeups(f"{url}?ssl_cert_reqs=CERT_NONE").notify()


def test_a_wrong_password_is_reported_by_way_of_tls_too(
    secured: tuple[Tls, str], authority: Authority
) -> None:
    tls, _ = secured
    url = f"rediss://:wrong@{LOCALHOST}:{tls.port}/0?ssl_ca_certs={authority.path}"

    assert "invalid username-password" in open_wakeups(url).check()


@pytest.mark.parametrize("name", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_of_certificates_that_cannot_be_read_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(InvalidSetting, match=rf"IMPASTO_BROKER_URL: {name}={path}: .*accepted"):
            open_wakeups(f"rediss://:secret@h/0?{name}={path}")


# Whatever goes wrong.


@pytest.mark.parametrize("path", ["impasto", "9999999"])
def test_nothing_that_a_wake_up_meets_is_raised(
    valkey: "ValkeyAt", path: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = urlsplit(valkey.fresh())._replace(path=f"/{path}").geturl()
    wakeups = open_wakeups(url)

    assert wakeups.notify() is False
    assert "wake-up not sent: " in caplog.text
    assert wakeups.check()
