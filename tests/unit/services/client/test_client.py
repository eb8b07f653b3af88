import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from impasto.services.client import ApiError, Cancelled, Client, InvalidSpec, JobFailed, NotServed
from impasto.services.client.client import POLL_FIRST_SECONDS, POLL_LONGEST_SECONDS
from impasto.shared.object_keys import digest
from tests.arrange.pictures import paint
from tests.arrange.scripted import DROPPED, Answer, Script

CONTENT, STYLE = paint(1), paint(2)
KNOWN = Answer(200, {"id": "..."})
UNKNOWN = Answer(404, {"code": "asset_not_found", "status": 404}, "application/problem+json")
UNCHANGED = Answer(304)

Open = Callable[[Script], tuple[Client, list[float]]]


@pytest.fixture
def client() -> Iterator[Open]:
    """`client(server)` gives a client, and the list of the pauses that it makes."""
    with ExitStack() as stack:

        def open(server: Script) -> tuple[Client, list[float]]:
            pauses: list[float] = []
            made = Client(server.url, sleep=pauses.append, chance=random.Random(1))
            return stack.enter_context(made), pauses

        yield open


def job(status: str = "queued", version: int = 1, **more: Any) -> Answer:
    document = {
        "id": "17",
        "version": version,
        "status": status,
        "phase": None,
        "labels": {},
        "times": {"created_at": "2026-01-01T00:00:00Z"},
        "progress": {"fraction": 0, "iteration": 0, "iterations": 3, "it_per_s": None},
        "spec": {},
        "spec_digest": "",
        "attempt": {"n": 0},
        "links": {},
        "a field of next year": 1,
        **more,
    }
    return Answer(200, document, etag=f'"{version}"')


def test_only_pictures_that_the_server_lacks_travel(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(KNOWN, UNKNOWN, Answer(201, {}), job())
    made = client(server)[0].render(CONTENT, STYLE, size=64)
    assert made.id == "17"
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("GET", f"/v1/assets/{digest(CONTENT)}"),
        ("GET", f"/v1/assets/{digest(STYLE)}"),
        ("POST", "/v1/assets"),
        ("POST", "/v1/jobs"),
    ]
    assert STYLE in server.asked[2].body


def test_a_server_in_trouble_is_not_taken_for_one_that_lacks_a_picture(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(Answer(500, {"code": "internal_error"}, "application/problem+json"))
    with pytest.raises(ApiError):
        client(server)[0].render(CONTENT, STYLE)
    assert [asked.method for asked in server.asked] == ["GET"]


def test_a_submit_that_is_repeated_carries_the_same_key(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(KNOWN, KNOWN, DROPPED, Answer(503, {}), job())
    client(server)[0].render(CONTENT, STYLE)
    keys = [asked.headers["Idempotency-Key"] for asked in server.asked[2:]]
    assert len(keys) == 3
    assert len(set(keys)) == 1


def test_two_submits_of_the_same_carry_different_keys(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(KNOWN, KNOWN, job(), KNOWN, KNOWN, job())
    for _ in range(2):
        client(server)[0].render(CONTENT, STYLE)
    keys = [asked.headers["Idempotency-Key"] for asked in server.asked if asked.method == "POST"]
    assert len(set(keys)) == 2


def test_what_cannot_be_right_is_refused_before_anything_is_sent(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(KNOWN)
    with pytest.raises(InvalidSpec, match=r"size is 3.*at least 64"):
        client(server)[0].render(CONTENT, STYLE, size=3)
    with pytest.raises(FileNotFoundError):
        client(server)[0].render("there is no such file.jpg", STYLE)
    assert server.asked == []


def test_a_refused_picture_is_called_by_its_name(
    play: Callable[..., Script], client: Open, tmp_path: Path
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    document = {
        "code": "invalid_image",
        "detail": "file: this is no picture",
        "errors": [{"field": "file", "value": "10 bytes", "accepted": "a picture"}],
    }
    server = play(UNKNOWN, Answer(422, document, "application/problem+json"))
    with pytest.raises(ApiError) as refusal:
        client(server)[0].render(path, STYLE)
    assert refusal.value.detail == f"{path}: this is no picture"
    assert refusal.value.violations[0].field == str(path)


def test_watching_asks_only_for_changes_and_ends_with_the_job(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(job(), UNCHANGED, job("running", 2), UNCHANGED, job("succeeded", 3))
    seen = list(client(server)[0].job("17").watch())
    assert [status.version for status in seen] == [1, 2, 3]
    told = [asked.headers.get("If-None-Match") for asked in server.asked]
    assert told == [None, '"1"', '"1"', '"2"', '"2"']


def test_a_job_that_does_not_change_is_asked_for_less_and_less(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(job(), *[UNCHANGED] * 9, job("running", 2), job("succeeded", 3))
    opened, pauses = client(server)
    list(opened.job("17").watch())
    assert pauses[0] == POLL_FIRST_SECONDS
    assert pauses[:10] == sorted(pauses[:10])
    assert pauses[9] == POLL_LONGEST_SECONDS
    assert pauses[10] == POLL_FIRST_SECONDS


def test_watching_outlives_a_restart_of_the_server(
    play: Callable[..., Script], client: Open
) -> None:
    server = play(job(), *[DROPPED] * 8, job("succeeded", 2))
    opened, pauses = client(server)
    assert [status.version for status in opened.job("17").watch()] == [1, 2]
    assert sum(pauses) > 10


def queued(version: int = 1, *, code: str | None = None) -> Answer:
    why_not = code and f"because of {code}"
    queue = {"position": 1, "runnable": code is None, "code": code, "why_not": why_not}
    return job(version=version, queue=queue)


def opened(server: Script, stuck_seconds: float | None = 10) -> tuple[Client, list[float]]:
    pauses: list[float] = []
    return Client(server.url, sleep=pauses.append, stuck_seconds=stuck_seconds), pauses


def test_a_job_that_no_worker_can_take_is_cancelled_after_a_while(
    play: Callable[..., Script],
) -> None:
    server = play(queued(), queued(2, code="storage_full"), *[UNCHANGED] * 9)
    client, pauses = opened(server)
    with client, pytest.raises(NotServed) as end:
        client.job("17").result()
    told = "job 17 is cancelled, no worker can take it: because of storage_full"
    assert end.value.detail == told
    assert 10 <= sum(pauses[1:]) < 10 + POLL_LONGEST_SECONDS
    assert (server.asked[-1].method, server.asked[-1].path) == ("POST", "/v1/jobs/17/cancel")


def test_a_job_that_cannot_even_be_cancelled_is_said_to_stay(play: Callable[..., Script]) -> None:
    full = Answer(507, {"code": "storage_full", "status": 507}, "application/problem+json")
    server = play(queued(code="storage_full"), full)
    client, _ = opened(server, stuck_seconds=0)
    with client, pytest.raises(NotServed, match="job 17 stays in the queue, no worker can"):
        client.job("17").wait()


@pytest.mark.parametrize(
    ("code", "stuck_seconds"),
    [
        *((code, 10) for code in ("paused", "overdue", "starting", "busy", "too_large", None)),
        ("no_worker", None),
    ],
)
def test_a_job_that_waits_for_what_will_come_is_watched_for_as_long_as_it_takes(
    play: Callable[..., Script], code: str, stuck_seconds: float | None
) -> None:
    server = play(queued(code=code), *[UNCHANGED] * 20, job("succeeded", 3))
    client, pauses = opened(server, stuck_seconds)
    with client:
        assert client.job("17").wait().version == 3
    assert sum(pauses) > 30


def test_a_worker_that_is_well_again_in_time_is_no_reason_to_give_up(
    play: Callable[..., Script],
) -> None:
    stuck = [queued(code="storage_full"), *[UNCHANGED] * 6]  # eight seconds
    server = play(*stuck, queued(2), *stuck, job("succeeded", 3))
    client, pauses = opened(server)
    with client:
        assert client.job("17").wait().version == 3
    assert sum(pauses) > 10


def test_a_job_that_failed_raises_its_problem_when_it_is_saved(
    play: Callable[..., Script], client: Open, tmp_path: Path
) -> None:
    problem = {"code": "diverged", "status": 500, "detail": "the loss is not a number"}
    server = play(job("failed", error=problem))
    with pytest.raises(JobFailed, match="the loss is not a number") as failure:
        client(server)[0].job("17").save(tmp_path / "out.png")
    assert failure.value.code == "diverged"
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_was_cancelled_has_no_result(play: Callable[..., Script], client: Open) -> None:
    with pytest.raises(Cancelled, match="17"):
        client(play(job("cancelled")))[0].job("17").result()


def test_a_list_goes_on_to_the_next_page_when_it_is_reached(
    play: Callable[..., Script], client: Open
) -> None:
    pages = [
        Answer(200, {"jobs": [job(version=1).body], "next": "/v1/jobs?before=17"}),
        Answer(200, {"jobs": [job(version=2).body], "next": None}),
    ]
    server = play(*pages)
    found = client(server)[0].jobs(status=["queued", "running"], labels={"shop": "4"})
    assert next(found).version == 1
    assert len(server.asked) == 1
    assert [each.version for each in found] == [2]
    assert [asked.path for asked in server.asked] == [
        "/v1/jobs?status=queued&status=running&label=shop%3A4",
        "/v1/jobs?before=17",
    ]


def test_what_a_newer_server_adds_is_kept(play: Callable[..., Script], client: Open) -> None:
    status = client(play(job()))[0].job("17").status()
    assert status.model_dump()["a field of next year"] == 1


@pytest.mark.parametrize(
    ("answer", "is_ours"),
    [
        (Answer(200, {"name": "Impasto", "version": "1"}), True),
        (Answer(200, {"name": "Another", "version": "1"}), False),
        (Answer(200, b"<h1>It works!", "text/html"), False),
        (Answer(404, b"", "text/html"), False),
        (DROPPED, False),
    ],
)
def test_only_impasto_answers_as_impasto(
    play: Callable[..., Script], client: Open, answer: Answer | None, is_ours: bool
) -> None:
    opened, pauses = client(play(answer))
    assert opened.answers() is is_ours
    assert pauses == []
