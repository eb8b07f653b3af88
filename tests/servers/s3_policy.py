"""In front of an S3 store: what AWS refuses to keys without ListBucket, and outside us-east-1."""

import http.client
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

from .server import LOCALHOST

ANSWERS = {"AccessDenied": 403, "NoSuchBucket": 404, "IllegalLocationConstraintException": 400}
GRANTED = frozenset({"GetObject", "PutObject", "DeleteObject"})


class S3Policy:
    """Passes on what is granted and answers the rest, as AWS does, on threads of its own.

    granted: names of actions. Without ListBucket, an object that is missing is answered with 403.
    region: where buckets are made; CreateBucket is answered here, and its body kept in `made`.
    """

    def __init__(
        self, endpoint: str, *, granted: frozenset[str] = GRANTED, region: str = "us-east-1"
    ) -> None:
        self.granted = granted
        self.region = region
        self.made: list[str | None] = []  # the LocationConstraint of each bucket
        self._behind = urlsplit(endpoint).netloc
        self._is_missing = False
        policy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                policy.answer(self, body)

            do_GET = do_HEAD = do_PUT = do_DELETE = answer  # noqa: N815  # http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((LOCALHOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    @property
    def endpoint(self) -> str:
        return f"http://{LOCALHOST}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def forget_bucket(self) -> None:
        """Say that there is no bucket, until one is made."""
        self._is_missing = True

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        action = _action(request.command, request.path)
        if action == "CreateBucket" and action in self.granted:
            self._make(request, body)
        elif action not in self.granted:
            _refuse(request, "AccessDenied", f"not allowed: s3:{action}")
        elif self._is_missing:
            _refuse(request, "NoSuchBucket")
        else:
            self._pass_on(request, body)

    def _make(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        place = ET.fromstring(body).findtext("{*}LocationConstraint") if body else None  # noqa: S314
        self.made.append(place)
        # AWS takes its first region for granted, and refuses its name.
        if place == (None if self.region == "us-east-1" else self.region):
            self._is_missing = False
            _write(request, 200, {}, b"")
        else:
            _refuse(request, "IllegalLocationConstraintException")

    def _pass_on(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        connection = http.client.HTTPConnection(self._behind, timeout=30)
        # The headers as they are: the client has signed them, Host included.
        connection.putrequest(
            request.command, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as answer:
            told = answer.read()
            is_hidden = answer.status == 404 and b"NoSuchBucket" not in told
            if is_hidden and "ListBucket" not in self.granted:
                _refuse(request, "AccessDenied")
            else:
                _write(request, answer.status, dict(answer.getheaders()), told)
        connection.close()


def _action(method: str, target: str) -> str:
    parts = urlsplit(target)
    is_object = re.fullmatch(r"/[^/]+/.+", parts.path)
    match method, bool(is_object):
        case "GET" | "HEAD", True:
            return "GetObject"
        case "PUT", True:
            return "PutObject"
        case "DELETE", True:
            return "DeleteObject"
        case "PUT", False:
            return "CreateBucket"
        case "GET" | "HEAD", False:
            return "ListBucket" if "location" not in parse_qs(parts.query) else "GetBucketLocation"
    return method


def _refuse(request: BaseHTTPRequestHandler, code: str, why: str = "by policy") -> None:
    told = f"<Error><Code>{code}</Code><Message>{why}</Message></Error>".encode()
    _write(request, ANSWERS[code], {"Content-Type": "application/xml"}, told)


def _write(
    request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        if name.lower() not in {"transfer-encoding", "content-length", "connection", "date"}:
            request.send_header(name, value)
    is_head = request.command == "HEAD"
    length = headers.get("Content-Length", "0") if is_head else str(len(body))
    request.send_header("Content-Length", length)
    request.end_headers()
    if not is_head:
        request.wfile.write(body)
