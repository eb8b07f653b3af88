"""The proxy under the tests of outages: it passes everything on until it is told not to."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from time import monotonic

import pytest

from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST, free_port

SOON_SECONDS = 5
LARGE = bytes(range(256)) * 2**14


class Echo:
    """A server that answers what it is told, and remembers all of it."""

    def __init__(self) -> None:
        self._listening = socket.create_server((LOCALHOST, 0))
        self.port = self._listening.getsockname()[1]
        self.heard = b""
        self.is_done = threading.Semaphore(0)  # with each connection that ended in order
        self.is_broken = threading.Semaphore(0)  # with each that was reset
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._echo, args=[connection]))
                self._threads[-1].start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(2**16):
                    self.heard += piece
                    connection.sendall(piece)
            except OSError:
                self.is_broken.release()
            else:
                self.is_done.release()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as echo:
        yield echo


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with Proxy(echo.port) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOCALHOST, proxy.port), timeout=SOON_SECONDS)


def ask(client: socket.socket, data: bytes) -> bytes:
    """The answer, as long as the question."""
    sender = threading.Thread(target=client.sendall, args=[data])
    sender.start()
    answer = b""
    while len(answer) < len(data) and (piece := client.recv(2**16)):
        answer += piece
    sender.join()
    return answer


def test_what_is_sent_arrives_whole_in_both_directions_and_so_do_the_ends(
    proxy: Proxy, echo: Echo
) -> None:
    with connect(proxy) as client, connect(proxy) as other:
        assert ask(client, LARGE) == LARGE
        assert ask(other, b"other") == b"other"
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""

    assert echo.is_done.acquire(timeout=SOON_SECONDS)


def test_a_cut_resets_both_sides_and_refuses_until_it_is_healed(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert ask(client, b"before") == b"before"

        proxy.cut()

        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.is_broken.acquire(timeout=SOON_SECONDS)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert proxy.count == 0

    proxy.heal()
    with connect(proxy) as client:
        assert ask(client, b"after") == b"after"


def test_a_freeze_keeps_back_what_healing_passes_on(proxy: Proxy) -> None:
    with connect(proxy) as before:
        assert ask(before, b"before") == b"before"

        proxy.freeze()
        with connect(proxy) as meanwhile:
            for client in (before, meanwhile):
                client.sendall(b"meanwhile")
                client.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(SOON_SECONDS)

            proxy.heal()

            for client in (before, meanwhile):
                assert client.recv(9) == b"meanwhile"


def test_what_is_frozen_can_be_cut(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert ask(client, b"before") == b"before"
        proxy.freeze()
        client.sendall(b"lost")

        proxy.cut()

        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert echo.is_broken.acquire(timeout=SOON_SECONDS)
    assert echo.heard == b"before"


def test_a_delay_holds_each_piece_until_it_is_healed(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"before") == b"before"

        proxy.delay(0.1)
        began = monotonic()
        assert ask(client, b"slowly") == b"slowly"
        assert monotonic() - began >= 0.2  # there and back

        proxy.heal()
        assert ask(client, LARGE) == LARGE


def test_a_half_closed_client_hears_the_end_and_is_still_heard(proxy: Proxy, echo: Echo) -> None:
    with connect(proxy) as client:
        assert ask(client, b"before,") == b"before,"

        proxy.half_close()

        assert client.recv(1) == b""
        client.sendall(b"after")
        client.shutdown(socket.SHUT_WR)
        assert echo.is_done.acquire(timeout=SOON_SECONDS)
    assert echo.heard == b"before,after"

    with connect(proxy) as client:
        assert ask(client, b"new") == b"new"


def test_clients_of_a_server_that_does_not_run_are_reset() -> None:
    with (
        Proxy(free_port()) as proxy,
        pytest.raises(ConnectionResetError),  # in `recv`, or so soon that `connect` still waits
        connect(proxy) as client,
    ):
        client.recv(1)


def test_a_proxy_that_ends_while_clients_arrive_leaves_nothing_open() -> None:
    for _ in range(20):
        proxy = Proxy(free_port()).start()
        with ExitStack() as clients:
            for _ in range(5):
                client = clients.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex((LOCALHOST, proxy.port))
            proxy.close()

    gc.collect()  # what was left open is warned of here, and a warning fails a test


def test_a_server_is_reached_by_way_of_the_proxy(proxy: Proxy, echo: Echo) -> None:
    direct = f"redis://:secret@{LOCALHOST}:{echo.port}/3"

    assert proxy.url(direct) == f"redis://:secret@{LOCALHOST}:{proxy.port}/3"
