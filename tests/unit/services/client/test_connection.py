import random
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from impasto.services.client import ApiError, Backoff, Unreachable
from impasto.services.client.connection import Connection, read
from impasto.services.client.documents import Index
from impasto.shared.errors import InvalidSetting
from tests.arrange.scripted import DROPPED, Answer, Script

BUSY = Answer(503, {"detail": "the database is away"}, "application/problem+json")
HERE = Answer(200, {"name": "Impasto", "version": "1"})

Connect = Callable[[str], tuple[Connection, list[float]]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """`connect(url)` gives a connection, and the list of the pauses that it makes."""
    made = []

    def connect(url: str) -> tuple[Connection, list[float]]:
        pauses: list[float] = []
        connection = Connection(
            url, timeout_seconds=5, backoff=Backoff(), sleep=pauses.append, chance=random.Random(1)
        )
        made.append(connection)
        return connection, pauses

    yield connect
    for connection in made:
        connection.close()


def test_pauses_double_up_to_the_longest_and_add_up_to_the_patience() -> None:
    backoff = Backoff(first_seconds=1, longest_seconds=8, patience_seconds=30)
    pauses = list(backoff.pauses(random.Random(2)))
    assert sum(pauses) == pytest.approx(30)
    for pause, whole in zip(pauses[:-1], [1, 2, 4, 8, 8, 8, 8], strict=False):
        assert whole / 2 <= pause <= whole


def test_clients_that_fail_together_do_not_come_back_together() -> None:
    firsts = {next(Backoff().pauses(random.Random(seed))) for seed in range(20)}
    assert len(firsts) == 20


@pytest.mark.parametrize("failure", [DROPPED, BUSY, Answer(502, b"bad gateway", "text/html")])
def test_a_server_that_is_away_for_a_moment_is_asked_again(
    play: Callable[..., Script], connect: Connect, failure: Answer | None
) -> None:
    server = play(failure, failure, HERE)
    connection, pauses = connect(server.url)
    assert read(Index, connection.send("GET", "/")).name == "Impasto"
    assert len(server.asked) == 3
    assert len(pauses) == 2


def test_a_request_is_repeated_whole(play: Callable[..., Script], connect: Connect) -> None:
    server = play(DROPPED, BUSY, HERE)
    connection, _ = connect(server.url)
    connection.send("POST", "/v1/jobs", json={"size": 64}, headers={"Idempotency-Key": "k"})
    assert {asked.body for asked in server.asked} == {b'{"size":64}'}
    assert [asked.headers["Idempotency-Key"] for asked in server.asked] == ["k", "k", "k"]


def test_a_server_that_stays_away_is_reported_with_its_problem(
    play: Callable[..., Script], connect: Connect
) -> None:
    server = play(BUSY)
    connection, pauses = connect(server.url)
    with pytest.raises(ApiError, match="the database is away"):
        connection.send("GET", "/")
    assert sum(pauses) == pytest.approx(Backoff().patience_seconds)


def test_an_address_where_nobody_listens_is_named_with_what_to_do(connect: Connect) -> None:
    connection, pauses = connect("http://127.0.0.1:1")
    with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:1.*impasto up"):
        connection.send("GET", "/")
    assert pauses


def test_a_refusal_is_not_repeated(play: Callable[..., Script], connect: Connect) -> None:
    document = {
        "code": "invalid_spec",
        "status": 422,
        "detail": "size is 3, accepted: more",
        "errors": [{"field": "size", "value": 3, "accepted": "more"}],
    }
    server = play(Answer(422, document, "application/problem+json"))
    connection, pauses = connect(server.url)
    with pytest.raises(ApiError) as refusal:
        connection.send("GET", "/")
    error = refusal.value
    assert (error.code, error.status, error.detail) == tuple(document.values())[:3]
    assert error.violations[0].field == "size"
    assert error.problem()["errors"] == document["errors"]
    assert pauses == []


@pytest.mark.parametrize(
    "answer", [Answer(404, b"<h1>nginx", "text/html"), Answer(200, b"<h1>It works!", "text/html")]
)
def test_a_server_that_is_not_ours_is_reported_as_such(
    play: Callable[..., Script], connect: Connect, answer: Answer
) -> None:
    connection, _ = connect(play(answer).url)
    with pytest.raises(ApiError, match="is the address right"):
        read(Index, connection.send("GET", "/"))


@pytest.mark.parametrize("url", ["localhost:7777", "ftp://host", "http://", "http://host:x", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="accepted: http://HOST:PORT"):
        Connection(url, timeout_seconds=5, backoff=Backoff())


def test_no_proxy_comes_between_us_and_our_own_machine(
    play: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    impatient: dict[str, Any] = {"timeout_seconds": 5, "backoff": Backoff(patience_seconds=0)}
    with closing(Connection(play(HERE).url, **impatient)) as connection:
        assert connection.send("GET", "/").status_code == 200
