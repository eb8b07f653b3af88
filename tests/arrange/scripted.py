"""A real HTTP server that plays a script."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int = 200
    body: Any = None  # JSON, unless it is bytes
    media_type: str = "application/json"
    etag: str = '"1"'


DROPPED = None  # no answer: the connection just ends


class Script:
    """Gives its answers in order, the last one for ever."""

    def __init__(self, answers: tuple[Answer | None, ...], port: int) -> None:
        self.asked: list[Asked] = []
        self._answers = iter(answers)
        self._last = answers[-1]
        self.url = f"http://127.0.0.1:{port}"

    def next(self, asked: Asked) -> Answer | None:
        self.asked.append(asked)
        return next(self._answers, self._last)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.script.next(Asked(self.command, self.path, dict(self.headers), body))
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        data = b"" if answer.status == 304 else data
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", answer.etag)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def played(answers: tuple[Answer | None, ...]) -> Iterator[Script]:
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.script = Script(answers, server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield handler.script
        finally:
            server.shutdown()
            thread.join()
