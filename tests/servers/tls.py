"""TLS in front of a server that has none, as a load balancer ends it, by a CA of the tests' own."""

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Self

import trustme

from .server import LOCALHOST, free_port

CHUNK_BYTES = 2**16


class Authority:
    """A CA, whose certificate lies in a file."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.path = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def context(self, name: str) -> ssl.SSLContext:
        """What a server of this name proves itself with."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._authority.issue_cert(name).configure_cert(context)
        return context


class Tls:
    """Takes TLS on `self.port` and passes on what was in it, on threads of its own."""

    def __init__(self, behind: int, context: ssl.SSLContext) -> None:
        self.port = free_port()
        self.heard = b""  # what clients have sent so far, once they trusted us
        self._behind = behind
        self._context = context
        self._is_over, self._over = socket.socketpair()

    def __enter__(self) -> Self:
        serve = self._link

        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # clients that do not trust us, or are gone
                    serve(self.request)

        self._server = ThreadingTCPServer((LOCALHOST, self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05], name="tls")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._is_over.close()

    def _link(self, connection: socket.socket) -> None:
        connection.settimeout(10)  # of a handshake that never comes
        with (
            self._context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection((LOCALHOST, self._behind)) as server,
        ):
            while True:
                waiting = [client, server, self._is_over]
                ready = [client] if client.pending() else select.select(waiting, [], [])[0]
                if self._is_over in ready:
                    return
                for source, sink in ((client, server), (server, client)):
                    if source not in ready:
                        continue
                    piece = source.recv(CHUNK_BYTES)
                    if not piece:
                        return
                    if source is client:
                        self.heard += piece
                    sink.sendall(piece)
