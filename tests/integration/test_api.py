"""What the API serves, over SQLite and a folder, and over Postgres, Valkey and S3."""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from impasto.services.uploads import Inspections
from impasto.shared import object_keys
from impasto.shared.database import jobs, schema
from impasto.shared.database.jobs import Progress
from impasto.shared.errors import RenderFailed
from impasto.shared.pictures.pool import Decoders
from impasto.shared.states import Phase
from tests.arrange.api import (
    CLOSED,
    Api,
    claim,
    finish,
    form,
    refused,
    spec,
    submit,
    upload,
)
from tests.arrange.jobs import store_snapshot
from tests.arrange.pictures import encode, paint
from tests.arrange.timing import at_once

# Pictures.


def test_a_picture_is_kept_once_and_given_back_as_it_came(client: FlaskClient) -> None:
    data = paint(100, size=(40, 30))
    first = client.post("/v1/assets", data=data, content_type="image/png")
    again = client.post("/v1/assets", **form(("file", data)))

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json == client.get(first.location).json
    asset = first.json
    assert asset["id"] == object_keys.digest(data)
    assert (asset["width"], asset["height"], asset["size_bytes"]) == (40, 30, len(data))

    content = client.get(f"{first.location}/content")
    assert content.data == data
    assert content.content_type == "image/png"
    assert content.content_length == len(data)
    assert content.get_etag() == (asset["id"], False)
    assert content.cache_control.immutable


@pytest.mark.parametrize("declared", ["image/jpeg", "image/png", "image/webp"])
def test_a_picture_is_what_its_bytes_are_whatever_it_is_called(
    client: FlaskClient, declared: str
) -> None:
    data = paint(103)  # a PNG
    sent = client.post("/v1/assets", data=data, content_type=declared)
    assert sent.status_code in {200, 201}
    assert sent.json["media_type"] == "image/png"

    file = (BytesIO(paint(104)), "photo.jpg", declared)
    form = client.post("/v1/assets", data={"file": file}, content_type="multipart/form-data")
    assert form.status_code in {200, 201}
    assert form.json["media_type"] == "image/png"


def test_what_is_stored_is_never_decoded_again(api: Api) -> None:
    content, style = paint(105), paint(106)
    known = [upload(api.client, data) for data in (content, style)]
    with nothing_decoded(api):
        assert [upload(api.client, data) for data in (content, style)] == known
        sent = api.client.post("/v1/jobs", **form(("content", content), ("style", style)))
        assert sent.status_code == 202


def test_a_server_that_decodes_all_it_can_says_when_to_come_again(api: Api) -> None:
    with nothing_decoded(api):
        answer = api.client.post("/v1/assets", data=paint(110), content_type="image/png")
    refused(answer, 503, "busy")
    assert int(answer.headers["Retry-After"]) > 0


@contextmanager
def nothing_decoded(api: Api) -> Iterator[None]:
    """Meanwhile there is no child for small pictures, and no place in their line."""
    known = api.connections
    with Decoders(children=1, large=1, line=0) as full:
        api.app.extensions["impasto"] = dataclasses.replace(
            known, inspections=Inspections(full, 10**6)
        )
        yield
    api.app.extensions["impasto"] = known


def test_a_black_mask_is_refused_at_the_door_even_by_its_id(api: Api) -> None:
    black = encode(Image.new("L", (20, 20)), "PNG")
    content, style = upload(api.client, paint(108)), upload(api.client, paint(109))
    mask = upload(api.client, black)  # as a picture, there is nothing wrong with it
    masked = {"content": content, "styles": [{"asset": style, "mask": mask}]}
    for answer in (
        api.client.post("/v1/jobs", json=masked),
        api.client.post(
            "/v1/jobs", **form(("content", paint(108)), ("style", paint(109)), ("mask", black))
        ),
    ):
        (error,) = refused(answer, 422, "invalid_image")["errors"]
        assert error["field"] == "styles.0.mask"
        assert "white" in error["accepted"]


def test_a_picture_that_comes_four_times_at_once_is_one(api: Api) -> None:
    def send() -> TestResponse:
        client = api.app.test_client()
        return client.post("/v1/assets", data=paint(102), content_type="image/png")

    answers = at_once(4, send)
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert len({answer.text for answer in answers}) == 1


def test_a_picture_that_a_client_has_is_not_sent_again(client: FlaskClient) -> None:
    asset = upload(client, paint(101))
    answer = client.get(f"/v1/assets/{asset}/content", headers={"If-None-Match": f'"{asset}"'})
    assert (answer.status_code, answer.data) == (304, b"")


def test_head_tells_of_a_picture_without_sending_it(client: FlaskClient) -> None:
    answer = client.head(f"/v1/assets/{upload(client, paint(101))}/content")
    assert (answer.status_code, answer.content_length, answer.data) == (200, len(paint(101)), b"")


# Submitting.


def test_a_job_is_queued_and_somebody_is_woken(api: Api) -> None:
    woken = threading.Event()
    api.connections.wakeups.subscribe(woken.set)

    answer = api.client.post("/v1/jobs", json=spec(api.client, labels={"by": "test"}))

    assert woken.is_set()
    assert answer.status_code == 202
    job = answer.json
    assert answer.location == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert (job["status"], job["version"], job["labels"]) == ("queued", 1, {"by": "test"})
    assert job["queue"]["position"] > 0
    assert job["progress"] == {"fraction": 0, "iteration": 0, "iterations": 3, "it_per_s": None}
    assert job == api.client.get(answer.location).json


def test_one_form_uploads_the_pictures_and_submits_the_job(client: FlaskClient) -> None:
    content, first, second, mask = paint(110), paint(111), paint(112, "JPEG"), paint(114)
    answer = client.post(
        "/v1/jobs",
        **form(
            ("content", content),
            ("style", first),
            ("style", second),
            ("mask", mask),
            ("init", content),
            spec=json.dumps({"size": 64, "styles": [{"weight": 3}, {"weight": 1}]}),
        ),
    )
    assert answer.status_code == 202, answer.text
    told = answer.json["spec"]
    assert told["content"] == told["init_asset"] == object_keys.digest(content)
    assert told["init"] == "asset"
    assert told["styles"] == [
        {"asset": object_keys.digest(first), "weight": 0.75, "mask": object_keys.digest(mask)},
        {"asset": object_keys.digest(second), "weight": 0.25, "mask": None},
    ]
    for data in (content, first, second, mask):
        assert client.get(f"/v1/assets/{object_keys.digest(data)}/content").data == data


def test_a_form_may_take_a_style_that_was_uploaded_before(client: FlaskClient) -> None:
    style = upload(client, paint(2))
    answer = client.post(
        "/v1/jobs", **form(("content", paint(113)), spec=json.dumps({"styles": [style]}))
    )
    assert answer.status_code == 202, answer.text


def test_a_spec_may_be_a_file_of_the_form(client: FlaskClient) -> None:
    answer = client.post(
        "/v1/jobs", **form(("content", paint(1)), ("style", paint(2)), ("spec", b'{"size": 64}'))
    )
    assert answer.status_code == 202, answer.text
    assert answer.json["spec"]["size"] == 64


def test_a_job_is_queued_while_the_broker_is_away(another_api: Callable[..., Api]) -> None:
    api = another_api(broker_url=f"redis://{CLOSED}/0").prepare()
    began = time.monotonic()
    assert submit(api.client)["status"] == "queued"
    assert time.monotonic() - began < 15  # 1.5 s for the broker, and much for a busy machine


# Submitting again.


def test_the_same_key_and_spec_is_the_same_job(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a key, with spaces"}
    request = spec(client)
    first = client.post("/v1/jobs", json=request, headers=headers)
    again = client.post("/v1/jobs", json=dict(reversed(request.items())), headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json == again.json
    assert first.location == again.location


def test_the_same_key_with_another_spec_is_refused_and_stores_nothing(api: Api) -> None:
    headers = {"Idempotency-Key": "another key"}
    form_of = {"spec": '{"size": 64}'}
    sent = form(("content", paint(120)), ("style", paint(121)), **form_of)
    assert api.client.post("/v1/jobs", headers=headers, **sent).status_code == 202
    before = api.stored()
    other = form(("content", paint(122)), ("style", paint(121)), **form_of)
    refused(api.client.post("/v1/jobs", headers=headers, **other), 409, "idempotency_conflict")
    assert api.stored() == before


def test_two_submits_at_once_with_one_key_make_one_job(api: Api) -> None:
    request = spec(api.client, labels={"test": "at-once"})

    def send() -> TestResponse:
        client = api.app.test_client()
        return client.post("/v1/jobs", json=request, headers={"Idempotency-Key": "at once"})

    answers = at_once(4, send)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 202]
    assert len({answer.json["id"] for answer in answers}) == 1
    assert len(api.client.get("/v1/jobs?label=test:at-once").json["jobs"]) == 1


# Following.


def test_a_job_is_sent_again_only_when_something_has_changed(api: Api) -> None:
    job = submit(api.client, priority=100)
    url = job["links"]["self"]

    def ask(etag: str) -> TestResponse:
        return api.client.get(url, headers={"If-None-Match": etag})

    queued = ask('"0"')
    assert queued.status_code == 200
    assert ask(queued.headers["ETag"]).status_code == 304

    taken = claim(api, job["id"])
    running = ask(queued.headers["ETag"])
    assert running.status_code == 200
    assert running.headers["ETag"] == f'"{running.json["version"]}"'
    assert (running.json["status"], running.json["phase"]) == ("running", "loading")
    assert ask(running.headers["ETag"]).status_code == 304

    loss = {"total": 3.0, "content": 1.0, "style": 2.0, "tv": 0.0}
    progress = Progress(Phase.RENDERING, iteration=2, it_per_s=4.0, loss=loss)
    jobs.report(api.connections.database, taken, progress, lease_seconds=60)
    rendering = ask(running.headers["ETag"])
    assert rendering.json["progress"]["iteration"] == 2
    assert rendering.json["eta_seconds"] == 0.25
    assert rendering.json["loss"] == loss


def test_a_queued_job_is_sent_again_when_its_place_changes(client: FlaskClient) -> None:
    job = submit(client, priority=-100)
    seen = client.get(job["links"]["self"])
    submit(client, priority=-99)
    again = client.get(job["links"]["self"], headers={"If-None-Match": seen.headers["ETag"]})
    assert again.status_code == 200
    assert again.json["version"] == seen.json["version"]
    assert again.json["queue"]["position"] == seen.json["queue"]["position"] + 1


def test_a_job_that_waits_for_another_try_says_so(api: Api) -> None:
    job = submit(api.client, priority=100)
    taken = claim(api, job["id"])
    error = RenderFailed("the device fell over")
    jobs.retry(api.connections.database, taken, error, after_seconds=3600)
    told = api.client.get(job["links"]["self"]).json
    assert told["status"] == "queued"
    assert not told["queue"]["runnable"]
    assert told["queue"]["code"] == "paused"
    assert "tried again at" in told["queue"]["why_not"]
    assert told["attempt"]["failures"] == 1
    (previous,) = told["attempt"]["previous"]
    assert (previous["n"], previous["end"]) == (1, "retried")
    assert previous["error"]["code"] == "render_failed"


def test_pages_lead_through_all_jobs_once_the_newest_first(client: FlaskClient) -> None:
    made = [submit(client, labels={"test": "pages"})["id"] for _ in range(5)]
    found, page = [], "/v1/jobs?label=test:pages&limit=2"
    while page:
        answer = client.get(page)
        assert len(answer.json["jobs"]) <= 2
        found += [job["id"] for job in answer.json["jobs"]]
        page = answer.json["next"]
    assert found == made[::-1]


def test_a_list_is_filtered_by_status_and_labels(client: FlaskClient) -> None:
    kept = submit(client, labels={"test": "filters", "team": "a: b"})["id"]
    gone = submit(client, labels={"test": "filters"})["id"]
    client.post(f"/v1/jobs/{gone}/cancel")

    def ids(query: str) -> set[str]:
        return {
            job["id"] for job in client.get(f"/v1/jobs?label=test:filters&{query}").json["jobs"]
        }

    assert ids("") == {kept, gone}
    assert ids("status=queued") == {kept}
    assert ids("status=cancelled&status=failed") == {gone}
    assert ids("status=cancelled&status=queued") == {kept, gone}
    assert ids("label=team:a:%20b") == {kept}
    assert ids("label=team:a") == set()


# Cancelling.


def test_a_queued_job_is_cancelled_at_once(client: FlaskClient) -> None:
    answer = client.post(f"{submit(client)['links']['self']}/cancel")
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")


def test_a_running_job_is_asked_to_stop(api: Api) -> None:
    job = submit(api.client, priority=100)
    taken = claim(api, job["id"])
    for _ in range(2):
        answer = api.client.post(f"{job['links']['self']}/cancel")
        assert (answer.status_code, answer.json["status"]) == (202, "running")
        assert answer.json["times"]["cancel_requested_at"]
    jobs.acknowledge_cancel(api.connections.database, taken)
    answer = api.client.post(f"{job['links']['self']}/cancel")
    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")


# Results.


def test_what_a_job_made_can_be_downloaded(api: Api) -> None:
    job = submit(api.client, priority=100)
    made = finish(api, job["id"])
    told = api.client.get(job["links"]["self"]).json
    assert told["status"] == "succeeded"
    assert told["preview"] == told["result"]["url"] == told["links"]["result"]
    assert told["progress"]["fraction"] == 1  # a job may end before all its iterations

    result = api.client.get(told["links"]["result"])
    assert result.data == made["result"]
    assert result.content_type == "image/png"
    assert result.content_length == len(made["result"])
    assert result.get_etag() == (object_keys.digest(made["result"]), False)
    assert result.cache_control.immutable
    assert f"filename=impasto-{job['id']}.png" in result.headers["Content-Disposition"]

    losses = api.client.get(told["links"]["losses"])
    assert (losses.data, losses.mimetype) == (made["losses"], "text/csv")
    manifest = api.client.get(told["links"]["manifest"])
    assert (manifest.data, manifest.mimetype) == (made["manifest"], "application/json")
    (snapshot,) = told["snapshots"]
    picture = api.client.get(snapshot["url"])
    assert (picture.data, picture.mimetype) == (made["snapshot"], "image/jpeg")
    for answer in (result, losses, manifest, picture):
        known = {"If-None-Match": answer.headers["ETag"]}
        assert api.client.get(answer.request.path, headers=known).status_code == 304


@pytest.mark.parametrize(("kind", "suffix"), [("jpeg", ".jpg"), ("webp", ".webp")])
def test_a_result_is_served_in_its_format(api: Api, kind: str, suffix: str) -> None:
    job = submit(api.client, priority=100, format=kind)
    made = finish(api, job["id"], kind)

    result = api.client.get(f"{job['links']['self']}/result")

    assert (result.data, result.content_type) == (made["result"], f"image/{kind}")
    assert f"filename=impasto-{job['id']}{suffix}" in result.headers["Content-Disposition"]


def test_a_snapshot_of_a_running_job_is_not_kept_for_good(api: Api) -> None:
    job = submit(api.client, priority=100)
    taken = claim(api, job["id"])
    stores = api.connections.database, api.connections.storage
    store_snapshot(*stores, taken, 1, paint(5, "JPEG"))
    (snapshot,) = api.client.get(job["links"]["self"]).json["snapshots"]
    answer = api.client.get(snapshot["url"])
    assert answer.data == paint(5, "JPEG")
    assert answer.cache_control.no_cache
    assert not answer.cache_control.immutable


@pytest.mark.parametrize("what", ["result", "losses", "manifest"])
def test_a_job_without_a_result_says_where_it_stands(client: FlaskClient, what: str) -> None:
    job = submit(client)
    problem = refused(client.get(f"/v1/jobs/{job['id']}/{what}"), 409, "not_finished")
    assert "queued" in problem["detail"]
    client.post(f"/v1/jobs/{job['id']}/cancel")
    problem = refused(client.get(f"/v1/jobs/{job['id']}/{what}"), 409, "not_finished")
    assert "cancelled" in problem["detail"]


def test_what_broke_inside_is_not_shown_outside(api: Api) -> None:
    job = submit(api.client, priority=100)
    finish(api, job["id"])
    key = jobs.get(api.connections.database, job["id"]).result["key"]
    picture = api.connections.storage.get(key)
    api.connections.storage.delete(key)
    answer = api.client.get(f"/v1/jobs/{job['id']}/result")
    api.connections.storage.put(key, picture, "image/png")
    refused(answer, 500, "internal_error")
    assert key not in answer.text
    assert api.client.get("/healthz").status_code == 200


# Health.


def test_a_service_that_has_everything_is_ready(client: FlaskClient) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200, answer.text
    ok = {"database": "ok", "storage": "ok", "broker": "ok"}
    workers = {"alive": 0, "ready": 0}  # it can accept jobs, which wait for one
    assert answer.json == {"status": "ready", **ok, "workers": workers}


def test_a_service_without_its_schema_is_not_ready(another_api: Callable[..., Api]) -> None:
    api = another_api()
    api.connections.storage.prepare()
    answer = api.client.get("/readyz")
    (error,) = refused(answer, 503, "unavailable")["errors"]
    assert error["field"] == "database"
    assert "impasto migrate" in error["value"]
    assert answer.headers["Retry-After"]
    assert api.client.get("/healthz").status_code == 200


def test_a_service_without_its_storage_is_not_ready(
    another_api: Callable[..., Api], tmp_path: Path
) -> None:
    api = another_api(storage_url=f"file://{tmp_path}/nowhere")
    schema.upgrade(api.connections.database)
    (error,) = refused(api.client.get("/readyz"), 503, "unavailable")["errors"]
    assert error["field"] == "storage"


def test_a_service_without_its_broker_is_ready_and_says_so(
    another_api: Callable[..., Api],
) -> None:
    api = another_api(broker_url=f"redis://{CLOSED}/0").prepare()
    answer = api.client.get("/readyz")
    assert answer.status_code == 200
    assert "refused" in answer.json["broker"]


def test_a_database_that_is_away_is_a_reason_to_come_again(
    another_api: Callable[..., Api],
) -> None:
    api = another_api(database_url=f"postgresql+psycopg://nobody:secret@{CLOSED}/nothing")
    answer = api.client.get("/v1/jobs")
    refused(answer, 503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert CLOSED.partition(":")[0] not in answer.text
    assert api.client.get("/healthz").status_code == 200
    (error,) = [e for e in api.client.get("/readyz").json["errors"] if e["field"] == "database"]
    assert "out of reach" in error["value"]


def test_what_a_process_counts_is_there_for_prometheus(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert {"impasto_unexpected_errors", "impasto_wakeups_unsent"} <= families


# Names.


def test_a_request_keeps_the_name_that_it_came_with(client: FlaskClient) -> None:
    answer = client.get("/healthz", headers={"X-Request-Id": "from-the-balancer.1"})
    assert answer.headers["X-Request-Id"] == "from-the-balancer.1"


@pytest.mark.parametrize("told", [None, "", "two words", "x" * 101, "é"])
def test_a_request_without_a_usable_name_gets_one(client: FlaskClient, told: str | None) -> None:
    headers = {} if told is None else {"X-Request-Id": told}
    given = client.get("/healthz", headers=headers).headers["X-Request-Id"]
    assert given != told
    assert len(given) == 16


def test_the_index_leads_to_what_there_is(client: FlaskClient) -> None:
    links = client.get("/").json["links"]
    assert client.get(links["openapi"]).status_code == 200
    assert client.get(links["jobs"]).status_code == 200
