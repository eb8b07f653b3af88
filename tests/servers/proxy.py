"""A TCP proxy in front of one server, which can be cut, frozen, slowed down and half closed."""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self
from urllib.parse import urlsplit

from .server import LOCALHOST, free_port

CHUNK_BYTES = 2**16
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: what is closed is reset, what it held is dropped


class Proxy:
    """Passes on what is sent to `self.port`, on a thread of its own; safe to call from any other.

        with Proxy(server.port) as proxy:
            database = open_database(proxy.url(server.url))
            proxy.freeze()
            ...
            proxy.heal()

    port, host: of the server. It need not run: clients are reset as long as it does not.
    at: the address, of either version, that it listens on.
    """

    def __init__(self, port: int, host: str = LOCALHOST, *, at: str = LOCALHOST) -> None:
        self.port = free_port()
        self._at = at
        self._behind = host, port
        self._delay_seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._is_up = threading.Event()
        self._links: set[_Link] = set()

    def url(self, url: str) -> str:
        """The URL of the server, by way of this proxy."""
        server = re.escape("{}:{}".format(*self._behind))
        place = f"[{self._at}]" if ":" in self._at else self._at
        return re.sub(rf"\b{server}\b", f"{place}:{self.port}", url)

    @classmethod
    def of(cls, url: str, *, at: str = LOCALHOST) -> Self:
        """A proxy in front of the server that a URL leads to."""
        parts = urlsplit(url)
        return cls(parts.port, parts.hostname, at=at)

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until `heal`."""
        self._do(self._cut())

    def freeze(self) -> None:
        """Until `heal`, accept connections and bytes, and pass nothing on in either direction."""
        self._do(self._freeze())

    def delay(self, seconds: float) -> None:
        """Until `heal`, keep each piece so long before it is passed on, in either direction."""
        self._delay_seconds = seconds

    def half_close(self) -> None:
        """Tell every client that the server ended, but go on passing to the server what it sends.

        What the server answers on these connections is lost; new ones are whole.
        """
        self._do(self._half_close())

    def heal(self) -> None:
        """Pass everything on again, and what a freeze kept back first."""
        self._do(self._heal())

    def start(self) -> Self:
        self._thread.start()
        self._is_up.wait()
        return self

    def close(self) -> None:
        """Reset every connection and end."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_over = asyncio.Event()
        self._flows = asyncio.Event()
        self._listening: socket.socket | None = None
        await self._heal()
        self._is_up.set()
        await self._is_over.wait()
        await self._cut()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    async def _cut(self) -> None:
        if self._listening:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for link in self._links:
            link.reset()
        while self._links:
            await asyncio.sleep(0)

    async def _freeze(self) -> None:
        self._flows.clear()

    async def _half_close(self) -> None:
        for link in self._links:
            link.half_close()

    async def _heal(self) -> None:
        self._delay_seconds = 0.0
        self._flows.set()
        if self._listening is None:
            family = socket.AF_INET6 if ":" in self._at else socket.AF_INET
            self._listening = socket.create_server((self._at, self.port), family=family)
            self._listening.setblocking(False)
            self._loop.add_reader(self._listening, self._accept, self._listening)

    def _accept(self, listening: socket.socket) -> None:
        # not by asyncio.Server, which leaks what it was accepting when it is closed
        with suppress(BlockingIOError):  # who knocked is gone again
            client, _ = listening.accept()
            self._loop.create_task(self._link(client))

    async def _link(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=client)
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._listening is None:  # cut since it was accepted
                raise ConnectionResetError
            await self._flows.wait()
            there, link.server = await asyncio.open_connection(*self._behind)
            forth = asyncio.ensure_future(self._pump(link, reader, link.server))
            back = asyncio.ensure_future(self._pump(link, there, writer))
            link.tasks += [forth, back]
            await asyncio.gather(forth, back)
            await link.close()
        except (OSError, asyncio.CancelledError):  # one side is gone, and so the other has to be
            link.reset()
        finally:
            self._links.discard(link)

    async def _pump(
        self, link: "_Link", source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while piece := await source.read(CHUNK_BYTES):
            if self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flows.wait()
            if not (link.is_half_closed and sink is link.client):
                sink.write(piece)
                await sink.drain()
        await self._flows.wait()
        if not sink.is_closing():
            sink.write_eof()


class _Link:
    """One client's connection and, once it is made, ours to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.tasks = [asyncio.current_task()]
        self.is_half_closed = False

    def half_close(self) -> None:
        self.is_half_closed = True
        self.client.write_eof()

    async def close(self) -> None:
        """Return once all that was written is sent."""
        for writer in self._writers():
            writer.close()
        for writer in self._writers():
            await writer.wait_closed()

    def reset(self) -> None:
        for writer in self._writers():
            if not writer.is_closing():
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        for task in self.tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def _writers(self) -> list[asyncio.StreamWriter]:
        return [writer for writer in (self.client, self.server) if writer]
