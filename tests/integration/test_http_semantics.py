"""Methods, conditional requests and preferences, as HTTP has them (RFC 9110, RFC 7240)."""

import json

import pytest
from flask.testing import FlaskClient

from tests.arrange.api import Api, refused, spec, submit, upload
from tests.arrange.pictures import paint

ADDRESSES = [
    "/",
    "/healthz",
    "/readyz",
    "/v1/jobs",
    "/v1/assets",
    "/v1/jobs/{job}",
    "/openapi.json",
]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"]


@pytest.fixture(scope="module")
def job(api: Api) -> str:
    return submit(api.client)["id"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_each_method_is_served_or_the_right_ones_are_named(
    client: FlaskClient, job: str, address: str
) -> None:
    path = address.format(job=job)
    told = client.options(path)
    assert (told.status_code, told.data) == (200, b"")
    allowed = {method.upper() for method in told.allow}
    assert "OPTIONS" in allowed
    assert ("HEAD" in allowed) == ("GET" in allowed)
    for method in METHODS:
        if method in allowed:
            assert client.open(path, method=method).status_code != 405
            continue
        answer = client.open(path, method=method)
        if method == "HEAD":
            assert answer.status_code == 405
            continue
        (error,) = refused(answer, 405, "method_not_allowed")["errors"]
        assert error["field"] == "method"
        assert error["accepted"] == ", ".join(sorted(allowed))
        assert {each.upper() for each in answer.allow} == allowed


@pytest.mark.parametrize("path", ["/", "/v1/jobs", "/v1/jobs/{job}", "/nowhere"])
def test_head_tells_what_get_does_without_the_body(
    client: FlaskClient, job: str, path: str
) -> None:
    got, head = client.get(path.format(job=job)), client.head(path.format(job=job))
    assert head.data == b""
    assert head.status_code == got.status_code
    assert head.content_type == got.content_type
    assert head.headers.get("ETag") == got.headers.get("ETag")
    assert head.content_length == len(got.data)


@pytest.mark.parametrize(
    ("form", "is_known"),
    [
        ("{tag}", True),
        ("W/{tag}", True),
        ('"another", {tag}', True),
        ("*", True),
        ('"another"', False),
        ("", False),
        ("not quoted", False),
        ('"unfinished', False),
        ("{tag}{tag}", False),
    ],
)
def test_a_known_answer_is_not_sent_again_however_its_tag_is_written(
    client: FlaskClient, form: str, is_known: bool
) -> None:
    path = f"/v1/assets/{upload(client, paint(501))}/content"
    tag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": form.format(tag=tag)})
    assert answer.status_code == (304 if is_known else 200)
    assert answer.headers["ETag"] == tag
    assert answer.data == (b"" if is_known else paint(501))


@pytest.mark.parametrize("preference", ["wait=30", "wait", "respond-async, wait=1", "wait=-1", ""])
def test_a_preference_to_wait_is_not_granted_and_not_said_to_be(
    client: FlaskClient, job: str, preference: str
) -> None:
    path = f"/v1/jobs/{job}"
    tag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"Prefer": preference, "If-None-Match": tag})
    assert answer.status_code == 304  # at once: nothing changes while it waits
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "image/png;q=0", "x"])
def test_what_a_client_accepts_changes_nothing(client: FlaskClient, accept: str) -> None:
    """There is one form of each answer; RFC 9110 lets a server send it all the same."""
    answer = client.get("/v1/jobs", headers={"Accept": accept})
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    answer = client.get("/v1/jobs/nothing", headers={"Accept": accept})
    refused(answer, 404, "job_not_found")


@pytest.mark.parametrize("key", ["", " ", "\t", "a" * 201, "schlüssel"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, key: str) -> None:
    answer = client.post("/v1/jobs", json=spec(client), headers={"Idempotency-Key": key})
    (error,) = refused(answer, 422, "invalid_request")["errors"]
    assert error["field"] == "Idempotency-Key"


@pytest.mark.parametrize("key", ["k", '"quoted"', "a, b", "~!@#$%^&*()", "a" * 200])
def test_a_key_of_any_printable_characters_is_a_key(client: FlaskClient, key: str) -> None:
    asked, headers = spec(client), {"Idempotency-Key": key}
    first, again = (client.post("/v1/jobs", json=asked, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json["id"] == again.json["id"]


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/v1/jobs", "text/json"),
        ("/v1/jobs", "application/x-www-form-urlencoded"),
        ("/v1/jobs", "image/png"),
        ("/v1/jobs", ""),
        ("/v1/assets", "application/json"),
        ("/v1/assets", "image/svg+xml"),
        ("/v1/assets", "multipart/mixed; boundary=b"),
    ],
)
def test_a_body_of_another_type_is_refused_by_name(
    client: FlaskClient, path: str, content_type: str
) -> None:
    answer = client.post(path, data=b"{}", content_type=content_type)
    (error,) = refused(answer, 415, "unsupported_media_type")["errors"]
    assert error["field"] == "Content-Type"
    assert "multipart/form-data" in error["accepted"]


def test_json_may_say_its_characters(client: FlaskClient) -> None:
    body = json.dumps(spec(client))
    answer = client.post("/v1/jobs", data=body, content_type="application/json; charset=utf-8")
    assert answer.status_code == 202
