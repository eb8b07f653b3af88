"""Bytes that no client library would send, to the servers that serve the API: each is answered.

Never a 5xx, never silence, and whatever is refused is refused in problem+json.
"""

import json
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import h11
import pytest

from impasto.services.embedded import Embedded
from impasto.shared.settings import Settings
from tests.arrange.processes import Api
from tests.arrange.stores import prepare

MAX_BYTES = 1_000_000
ANSWER_SECONDS = 30  # a patient wait for what is there at once, on a machine that is busy


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_problem(self) -> bool:
        return self.headers.get("content-type") == "application/problem+json"


class SilenceError(Exception):
    """The server closed the connection without an answer."""


class Server:
    """Speaks bytes to a server, one connection each."""

    def __init__(self, port: int) -> None:
        self._port = port

    def send(self, *pieces: bytes, then_close: bool = False) -> Answer:
        """The first answer to these bytes, read while the connection stays open.

        then_close: say that no more will come, as a client that gives up does.
        """
        with socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS) as connection:
            for piece in pieces:
                connection.sendall(piece)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            return _read(connection)

    def get(self, path: str, *headers: str) -> Answer:
        return self.send(request("GET", path, *headers))


def _read(connection: socket.socket) -> Answer:
    """The first answer that is not a mere 100 Continue. Raises SilenceError without one."""
    with connection.makefile("rb") as file:
        while True:
            first = file.readline()
            if not first.startswith(b"HTTP/1."):
                raise SilenceError(first)
            headers = {}
            while (line := file.readline()) not in {b"\r\n", b""}:
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if (status := int(first.split()[1])) != 100:
                length = int(headers.get("content-length", 0))
                return Answer(status, headers, file.read(length))


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Either server, over a stack that is ready."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "waitress":
        settings = Settings(home=home, port=0, max_upload_bytes=MAX_BYTES)
        with Embedded(settings, renders=False) as embedded:
            yield Server(int(embedded.url.rpartition(":")[2]))
        return
    prepare(Settings(home=home))
    environment = {"IMPASTO_HOME": str(home), "IMPASTO_MAX_UPLOAD_BYTES": str(MAX_BYTES)}
    with Api(environment) as api:
        yield Server(api.port)


JSON = "Content-Type: application/json"
PNG = "Content-Type: image/png"
CHUNKED = "Transfer-Encoding: chunked"
CLOSE = "Connection: close"


def chunked(path: str, content_type: str, body: bytes) -> bytes:
    return request("POST", path, content_type, CHUNKED, body=body)


REFUSED = {
    "a chunk's size that is none": (chunked("/v1/jobs", JSON, b"ZZZ\r\n{}\r\n0\r\n\r\n"), 400),
    "the same for a picture": (chunked("/v1/assets", PNG, b"ZZZ\r\n{}\r\n0\r\n\r\n"), 400),
    "the same in a form": (
        chunked("/v1/jobs", "Content-Type: multipart/form-data; boundary=b", b"ZZ\r\n\r\n"),
        400,
    ),
    "a negative chunk": (chunked("/v1/jobs", JSON, b"-1\r\n{}\r\n0\r\n\r\n"), 400),
    "a chunk that is longer than told": (
        chunked("/v1/jobs", JSON, b"2\r\n{}garbage\r\n0\r\n\r\n"),
        400,
    ),
    "a chunk's size without end": (chunked("/v1/jobs", JSON, b"0" * 20_000), 400),
    "a length that is none": (request("POST", "/v1/jobs", JSON, "Content-Length: two"), 400),
    "a negative length": (request("POST", "/v1/jobs", JSON, "Content-Length: -1"), 400),
    "two lengths": (
        request("POST", "/v1/jobs", JSON, "Content-Length: 2", "Content-Length: 3", body=b"{}"),
        400,
    ),
    "a length of 5,000 digits": (
        request("POST", "/v1/jobs", JSON, f"Content-Length: {'9' * 5000}"),
        400,
    ),
    "a length that nobody could send": (
        request("POST", "/v1/assets", PNG, "Content-Length: 99999999999999"),
        413,
    ),
    "the same, and the client waits to be asked": (
        request(
            "POST", "/v1/assets", PNG, "Content-Length: 99999999999999", "Expect: 100-continue"
        ),
        413,
    ),
    "the same for a job": (
        request("POST", "/v1/jobs", JSON, "Content-Length: 99999999999999"),
        413,
    ),
    "no body, and the client waits to be asked for it": (
        request("POST", "/v1/assets", PNG, "Expect: 100-continue"),
        422,
    ),
    "a length and chunks": (
        request("POST", "/v1/jobs", JSON, "Content-Length: 2", CHUNKED, body=b"0\r\n\r\n"),
        400,
    ),
    "an unknown transfer coding": (
        request("POST", "/v1/jobs", JSON, "Transfer-Encoding: gzip, chunked"),
        400,
    ),
    "a transfer coding that nobody knows": (
        request("POST", "/v1/jobs", JSON, "Transfer-Encoding: xchunked"),
        400,
    ),
    "chunks in HTTP/1.0": (
        b"POST /v1/jobs HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two hosts": (request("GET", "/v1/jobs", "Host: elsewhere"), 400),
    "no host": (b"GET /v1/jobs HTTP/1.1\r\n\r\n", 400),
    "a host that is none": (b"GET /v1/jobs HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    "a header without a name": (request("GET", "/v1/jobs", ": x"), 400),
    "a header without a colon": (request("GET", "/v1/jobs", "garbage"), 400),
    "a header with a space in its name": (request("GET", "/v1/jobs", "X Y: z"), 400),
    "a folded header": (request("GET", "/v1/jobs", " folded"), 400),
    "a header of 300 kB": (request("GET", "/v1/jobs", f"X-Long: {'x' * 300_000}"), 431),
    "no version of HTTP": (b"GET /v1/jobs HTTP/9.9\r\nHost: x\r\n\r\n", 400),
    "no request line": (b"garbage\r\n\r\n", 400),
    "a method in lower case": (b"get /v1/jobs HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "an address that is none": (b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "a doubled slash": (request("GET", "/v1//jobs"), 404),
    "a doubled slash in front": (request("GET", "//v1/jobs"), 404),
    "an encoded slash": (request("GET", "/v1%2Fjobs"), 404),
    "a slash at the end": (request("GET", "/v1/jobs/"), 404),
    "a NUL in the address": (request("GET", "/v1/jobs/%00"), 404),
    "no UTF-8 in the address": (request("GET", "/v1/jobs/%ff%fe"), 404),
    "a method that is not there": (request("BREW", "/v1/jobs"), 405),
    "another place by a header": (request("GET", "/", "Script_Name: /v1"), 200),
}


@pytest.mark.parametrize(("sent", "status"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_client_should_send_is_answered_at_once(
    server: Server, sent: bytes, status: int
) -> None:
    answer = server.send(sent)
    assert answer.status == status, answer
    if status >= 400:
        assert answer.is_problem
        assert json.loads(answer.body)["status"] == status
    assert server.get("/healthz").status == 200


def test_a_wrong_expectation_is_refused_or_ignored(server: Server) -> None:
    answer = server.get("/v1/jobs", "Expect: the impossible")
    assert answer.status in {200, 417}
    assert answer.status == 200 or answer.is_problem


@pytest.mark.parametrize("host", ["localhost", "[::1]:7777", "a-b.example:80", "127.0.0.1:1", ""])
def test_a_host_in_any_right_form_is_served(server: Server, host: str) -> None:
    answer = server.send(f"GET /v1/jobs HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.status == 200


def test_an_address_with_its_host_is_served(server: Server) -> None:
    assert server.get("http://localhost/v1/jobs").status == 200


def test_http_1_0_without_a_host_is_served(server: Server) -> None:
    assert server.send(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


def test_the_answer_to_a_body_that_is_refused_is_read_whole(server: Server) -> None:
    head = request("POST", "/v1/assets", PNG, f"Content-Length: {40 * MAX_BYTES}")
    answer = server.send(head, *[bytes(MAX_BYTES)] * 40)
    assert (answer.status, answer.is_problem) == (413, True)
    assert json.loads(answer.body)["errors"][0]["field"] == "body"


def test_mutated_requests_are_answered_without_a_fault(
    server: Server, pytestconfig: pytest.Config
) -> None:
    dice = random.Random(13)
    body = b"5\r\nhello\r\n0\r\n\r\n"
    seeds = [
        request("GET", "/v1/jobs?limit=2&label=a:b", "Accept: */*", 'If-None-Match: "1"'),
        request("POST", "/v1/jobs", JSON, "Content-Length: 2", "Idempotency-Key: k", body=b"{}"),
        request("POST", "/v1/jobs", JSON, CHUNKED, body=body),
        request("POST", "/v1/assets", PNG, "Expect: 100-continue", CHUNKED, body=body),
        request("HEAD", "/v1/jobs/00000000000000000000", "X-Request-Id: a"),
    ]
    answered = 0
    for _ in range(120 * pytestconfig.getoption("rounds")):
        sent = mutated(dice, dice.choice(seeds))
        try:
            answer = server.send(sent, then_close=True)
        except SilenceError:
            assert not is_whole(sent), sent
            continue
        assert answer.status < 500, (sent, answer)
        assert answer.status < 400 or answer.is_problem, (sent, answer)
        answered += 1
    assert answered > 60
    assert server.get("/readyz").status == 200


def is_whole(data: bytes) -> bool:
    """Whether a request ends within these bytes, in the eyes of somebody else's parser."""
    if b"\n" in data.replace(b"\r\n", b""):
        return False  # it would take that for the end of a line
    parser = h11.Connection(h11.SERVER)
    parser.receive_data(data)
    with suppress(h11.RemoteProtocolError):
        while (event := parser.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return True
    return False


NASTY = [b"\0", b"\xff", b"\r", b"\n", b"\r\n", b" ", b":", b"%", b"%00", b"//", b"\t", b"9" * 30]


def mutated(dice: random.Random, data: bytes) -> bytes:
    """The bytes with one to three of them deleted, doubled, moved or replaced."""
    for _ in range(dice.randint(1, 3)):
        at, length = dice.randrange(len(data)), dice.randint(0, 6)
        new = dice.choice([b"", *NASTY, data[at : at + length] * 2, bytes([dice.randrange(256)])])
        data = data[:at] + new + data[at + length :]
    return data
