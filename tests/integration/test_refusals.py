"""Every bad request gets a clear answer, stores nothing and kills nothing."""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.test import TestResponse

from impasto.shared.spec import LAYERS
from tests.arrange.api import Api, form, refused, spec
from tests.arrange.pictures import animated, enlarged, paint

UNKNOWN = "0" * 64
PICTURE, STYLE, MASK = paint(201), paint(202), paint(205)

Send = Callable[[Api], TestResponse]


class Bad(NamedTuple):
    send: Send
    status: int
    code: str
    field: str | None = None
    accepted: str = ""  # a part of what is told to be accepted


def uploads(data: bytes, content_type: str | None = "image/png") -> Send:
    return lambda api: api.client.post("/v1/assets", data=data, content_type=content_type)


def uploads_form(*parts: tuple[str, bytes], **texts: str) -> Send:
    return lambda api: api.client.post("/v1/assets", **form(*parts, **texts))


def submits(**fields: Any) -> Send:
    return lambda api: api.client.post("/v1/jobs", json=spec(api.client, **fields))


def submits_text(text: str | bytes, content_type: str | None = "application/json") -> Send:
    return lambda api: api.client.post("/v1/jobs", data=text, content_type=content_type)


def submits_form(*parts: tuple[str, bytes], **texts: str) -> Send:
    return lambda api: api.client.post("/v1/jobs", **form(*parts, **texts))


def submits_with_key(key: str, **fields: Any) -> Send:
    return lambda api: api.client.post(
        "/v1/jobs", json=spec(api.client, **fields), headers={"Idempotency-Key": key}
    )


def gets(path: str) -> Send:
    return lambda api: api.client.get(path)


def calls(method: str, path: str) -> Send:
    return lambda api: api.client.open(path, method=method)


PAIR = (("content", PICTURE), ("style", STYLE))

BAD = {
    # Pictures.
    "no image": Bad(uploads(b"<html>"), 422, "invalid_image", "file", "image/jpeg"),
    "empty body": Bad(uploads(b""), 422, "invalid_image", "file", "image/jpeg"),
    "zero bytes": Bad(uploads(bytes(100)), 422, "invalid_image", "file"),
    "truncated": Bad(uploads(PICTURE[:-200]), 422, "invalid_image", "file"),
    "60,000 x 60,000": Bad(
        uploads(enlarged("PNG", 60_000, 60_000)), 422, "invalid_image", "file", "100000000 pixels"
    ),
    "animated": Bad(uploads(animated("GIF"), "image/gif"), 422, "invalid_image", "file", "still"),
    "wrong content type": Bad(
        uploads(PICTURE, "text/plain"), 415, "unsupported_media_type", "Content-Type", "image/png"
    ),
    "no content type": Bad(
        uploads(PICTURE, None), 415, "unsupported_media_type", "Content-Type", "image/png"
    ),
    "form without a file": Bad(uploads_form(), 422, "invalid_request", "file", "required"),
    "form with two files": Bad(
        uploads_form(("file", PICTURE), ("file", STYLE)), 422, "invalid_request", "file", "one"
    ),
    "form with a path for a file": Bad(
        uploads_form(file="photo.png"), 422, "invalid_request", "file", "-F file=@"
    ),
    "unknown part": Bad(
        uploads_form(("picture", PICTURE)), 422, "invalid_request", "picture", "file"
    ),
    # Specs.
    "broken JSON": Bad(submits_text('{"content": '), 400, "malformed_request"),
    "no UTF-8": Bad(submits_text(b'{"content": "\xff"}'), 400, "malformed_request"),
    "deep JSON": Bad(submits_text("[" * 50_000), 400, "malformed_request"),
    "a name twice": Bad(
        submits_text('{"size": 64, "styles": [], "size": 128}'),
        400,
        "malformed_request",
        "size",
        "one",
    ),
    "a name twice within": Bad(
        submits_text('{"styles": [{"weight": 1, "weight": 2}]}'),
        400,
        "malformed_request",
        "weight",
        "one",
    ),
    "empty spec": Bad(submits_text(""), 400, "malformed_request"),
    "no object": Bad(submits_text("[]"), 422, "invalid_spec", "(spec)", "content"),
    "spec as text": Bad(
        submits_text("{}", "text/plain"), 415, "unsupported_media_type", "Content-Type", "json"
    ),
    "spec without a type": Bad(
        submits_text("{}", None), 415, "unsupported_media_type", "Content-Type", "json"
    ),
    "spec too large": Bad(submits_text(" " * 500_001), 413, "body_too_large", "body", "500000"),
    "no content": Bad(submits_text('{"styles": []}'), 422, "invalid_spec", "content", "required"),
    "unknown field": Bad(submits(sise=512), 422, "invalid_spec", "sise", "size"),
    "unknown layer": Bad(
        submits(style_layers=["relu6_1"]), 422, "invalid_spec", "style_layers", LAYERS[-1]
    ),
    "layer of another kind": Bad(
        submits(style_layers=[["relu1_1"]]), 422, "invalid_spec", "style_layers", LAYERS[0]
    ),
    "size 0": Bad(submits(size=0), 422, "invalid_spec", "size", "at least 64"),
    "size as text": Bad(submits(size="512"), 422, "invalid_spec", "size", "a whole number"),
    "size without end": Bad(submits(size=10**400), 422, "invalid_spec", "size", "at most 16384"),
    "NaN weight": Bad(
        submits(content_weight=float("nan")), 422, "invalid_spec", "content_weight", "finite"
    ),
    "infinite weight": Bad(
        submits_text('{"tv_weight": 1e999}'), 422, "invalid_spec", "tv_weight", "finite"
    ),
    "9 styles": Bad(submits(styles=[UNKNOWN] * 9), 422, "invalid_spec", "styles", "1 to 8"),
    "no styles": Bad(submits(styles=[]), 422, "invalid_spec", "styles", "1 to 8"),
    "a style's weight that vanishes": Bad(
        submits(styles=[{"asset": UNKNOWN, "weight": 5e-324}, {"asset": UNKNOWN, "weight": 1000}]),
        422,
        "invalid_spec",
        "styles.0.weight",
        "at least 0.0001",
    ),
    "weights that would vanish in float32": Bad(
        submits(content_weight=1e-30, style_weight=1e-30), 422, "invalid_spec", "style_weight", "0"
    ),
    "a style of no weight, and nothing else to do": Bad(
        submits(style_weight=0), 422, "invalid_spec", "(spec)", "more than 0"
    ),
    "a seed that JavaScript would round": Bad(
        submits(seed=2**53), 422, "invalid_spec", "seed", str(2**53 - 1)
    ),
    "missing asset": Bad(submits(content=UNKNOWN), 404, "asset_not_found", "content", "uploaded"),
    "missing style": Bad(
        submits(styles=[UNKNOWN]), 404, "asset_not_found", "styles.0.asset", "uploaded"
    ),
    "missing mask": Bad(
        submits_form(*PAIR, spec=json.dumps({"styles": [{"mask": UNKNOWN}]})),
        404,
        "asset_not_found",
        "styles.0.mask",
        "uploaded",
    ),
    "no asset id": Bad(submits(content="../etc"), 422, "invalid_spec", "content", "asset's id"),
    "label with a NUL": Bad(submits(labels={"a": "\0"}), 422, "invalid_spec", "labels.a"),
    "label that no filter finds": Bad(submits(labels={"a:b": "c"}), 422, "invalid_spec"),
    "key in another alphabet": Bad(
        submits_with_key("é"), 422, "invalid_request", "Idempotency-Key", "printable"
    ),
    "key too long": Bad(
        submits_with_key("k" * 201), 422, "invalid_request", "Idempotency-Key", "200"
    ),
    "key of another spec": Bad(submits_with_key("used", size=65), 409, "idempotency_conflict"),
    "16 bits of a jpeg": Bad(submits(format="jpeg", bits=16), 422, "invalid_spec", "(spec)", "png"),
    # Forms.
    "9 style files": Bad(
        submits_form(PAIR[0], *[("style", STYLE)] * 9), 422, "invalid_spec", "styles", "1 to 8"
    ),
    "no style file": Bad(submits_form(PAIR[0]), 422, "invalid_spec", "styles", "required"),
    "form without anything": Bad(submits_form(), 422, "invalid_spec", "content", "required"),
    "form with a bad style": Bad(
        submits_form(PAIR[0], ("style", b"<html>")), 422, "invalid_image", "styles.0.asset"
    ),
    "form with a bad spec": Bad(
        submits_form(*PAIR, spec='{"size": 1}'), 422, "invalid_spec", "size", "at least 64"
    ),
    "form with a broken spec": Bad(submits_form(*PAIR, spec="{"), 400, "malformed_request"),
    "form with a large spec": Bad(
        submits_form(*PAIR, spec=" " * 500_001), 413, "body_too_large", "body", "500000"
    ),
    "form with a large spec file": Bad(
        submits_form(*PAIR, ("spec", b" " * 500_001)), 413, "body_too_large", "spec", "500000"
    ),
    "form with two specs": Bad(
        lambda api: api.client.post(
            "/v1/jobs", **form(*PAIR, ("spec", b"{}"), ("spec", b'{"size": 64}'))
        ),
        422,
        "invalid_request",
        "spec",
        "one part",
    ),
    "form with a name twice in its spec": Bad(
        submits_form(*PAIR, spec='{"size": 64, "size": 128}'),
        400,
        "malformed_request",
        "size",
        "one",
    ),
    "form with two contents": Bad(
        submits_form(("content", STYLE), *PAIR), 422, "invalid_request", "content", "one file"
    ),
    "form with a path for a content": Bad(
        submits_form(("style", STYLE), content="photo.jpg"), 422, "invalid_request", "content", "@"
    ),
    "form and spec with a content": Bad(
        submits_form(*PAIR, spec=json.dumps({"content": UNKNOWN})),
        422,
        "invalid_spec",
        "content",
        "nothing",
    ),
    "weights for other styles": Bad(
        submits_form(*PAIR, spec='{"styles": [{"weight": 1}, {"weight": 2}]}'),
        422,
        "invalid_spec",
        "styles",
        "1 of {weight, mask}",
    ),
    "more masks than styles": Bad(
        submits_form(*PAIR, ("mask", MASK), ("mask", MASK)),
        422,
        "invalid_spec",
        "mask",
        "at most 1, one for each style picture",
    ),
    "mask without a style file": Bad(
        submits_form(PAIR[0], ("mask", MASK), spec=json.dumps({"styles": [UNKNOWN]})),
        422,
        "invalid_spec",
        "mask",
        "at most 0",
    ),
    "mask twice": Bad(
        submits_form(*PAIR, ("mask", MASK), spec=json.dumps({"styles": [{"mask": UNKNOWN}]})),
        422,
        "invalid_spec",
        "styles.0.mask",
        "nothing",
    ),
    "form with a bad mask": Bad(
        submits_form(*PAIR, ("mask", b"<html>")), 422, "invalid_image", "styles.0.mask"
    ),
    "init file with another init": Bad(
        submits_form(*PAIR, ("init", PICTURE), spec='{"init": "noise"}'), 422, "invalid_spec"
    ),
    "too narrow a content": Bad(
        submits_form(("content", paint(203, size=(200, 9))), PAIR[1]),
        422,
        "invalid_spec",
        "content",
        "at least 32 px",
    ),
    "too narrow a style": Bad(
        submits_form(PAIR[0], ("style", paint(204, size=(9, 200)))),
        422,
        "invalid_spec",
        "styles.0.asset",
        "at least 32 px",
    ),
    "too fine a style": Bad(
        submits(size=64, style_scale=0.1), 422, "invalid_spec", "styles.0.asset", "style_scale"
    ),
    # Addresses.
    "unknown job": Bad(gets("/v1/jobs/" + "0" * 20), 404, "job_not_found"),
    "no job id": Bad(gets("/v1/jobs/%00"), 404, "job_not_found"),
    "result of an unknown job": Bad(gets(f"/v1/jobs/{'0' * 20}/result"), 404, "job_not_found"),
    "cancel of an unknown job": Bad(
        calls("POST", f"/v1/jobs/{'0' * 20}/cancel"), 404, "job_not_found"
    ),
    "unknown asset": Bad(gets(f"/v1/assets/{UNKNOWN}/content"), 404, "asset_not_found"),
    "no asset id in the address": Bad(gets("/v1/assets/%00"), 404, "asset_not_found"),
    "unknown address": Bad(gets("/v2/jobs"), 404, "not_found"),
    "wrong method": Bad(calls("DELETE", "/v1/jobs"), 405, "method_not_allowed", "method", "GET"),
    # Filters.
    "unknown filter": Bad(gets("/v1/jobs?state=queued"), 422, "invalid_request", "state", "status"),
    "unknown status": Bad(
        gets("/v1/jobs?status=done"), 422, "invalid_request", "status.0", "succeeded"
    ),
    "limit 0": Bad(gets("/v1/jobs?limit=0"), 422, "invalid_request", "limit", "at least 1"),
    "limit twice": Bad(gets("/v1/jobs?limit=1&limit=2"), 422, "invalid_request", "limit"),
    "label without a value": Bad(
        gets("/v1/jobs?label=a"), 422, "invalid_request", "label.0", "name:value"
    ),
    "label with a quote": Bad(gets('/v1/jobs?label=a":b'), 422, "invalid_request", "label.0"),
    "two values of one label": Bad(
        gets("/v1/jobs?label=a:1&label=a:2"), 422, "invalid_request", "label", "once"
    ),
    "unknown parameter of a list": Bad(
        gets("/v1/jobs?lable=a:b"), 422, "invalid_request", "lable", "label"
    ),
    "parameter of a job": Bad(
        gets("/v1/jobs/" + "0" * 20 + "?wait=30"), 422, "invalid_request", "wait", "no parameters"
    ),
    "parameter of a submit": Bad(
        calls("POST", "/v1/jobs?priority=1"), 422, "invalid_request", "priority", "no parameters"
    ),
    "parameter of an upload": Bad(
        calls("POST", "/v1/assets?name=a"), 422, "invalid_request", "name", "no parameters"
    ),
    "parameter of a cancel": Bad(
        calls("POST", "/v1/jobs/" + "0" * 20 + "/cancel?force=1"), 422, "invalid_request", "force"
    ),
    "parameter of a probe": Bad(gets("/healthz?verbose"), 422, "invalid_request", "verbose"),
    "parameter of the document": Bad(gets("/openapi.json?v=2"), 422, "invalid_request", "v"),
    "doubled slash": Bad(gets("/v1//jobs"), 404, "not_found"),
    "doubled slash in front": Bad(gets("//v1/jobs"), 404, "not_found"),
    "encoded slash": Bad(gets("/v1%2fjobs"), 404, "not_found"),
    "slash at the end": Bad(gets("/v1/jobs/"), 404, "not_found"),
    "page after nothing": Bad(gets("/v1/jobs?before=" + "0" * 20), 404, "job_not_found"),
    "page after no id": Bad(gets("/v1/jobs?before=%00"), 422, "invalid_request", "before"),
}


@pytest.fixture(scope="module", autouse=True)
def _something_is_known(api: Api) -> None:
    """So that what is stored afterwards can be compared with what was stored before."""
    headers = {"Idempotency-Key": "used"}
    answer = api.client.post("/v1/jobs", json=spec(api.client), headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_request_is_refused_clearly_and_changes_nothing(api: Api, bad: Bad) -> None:
    before = api.stored()
    answer = bad.send(api)
    problem = refused(answer, bad.status, bad.code)
    if bad.field:
        error = next(e for e in problem["errors"] if e["field"] == bad.field)
        assert bad.accepted in error["accepted"]
    assert api.stored() == before
    assert api.client.get("/healthz").status_code == 200
    assert is_documented(api, answer)


def is_documented(api: Api, answer: TestResponse) -> bool:
    """Whether openapi.json tells of this answer; true for addresses that it does not know."""
    request = answer.request
    try:
        rule, _ = api.app.url_map.bind("localhost").match(
            request.path, request.method, return_rule=True
        )
    except (NotFound, MethodNotAllowed):
        return True
    path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
    if path == "/openapi.json":
        return True  # it does not describe itself
    operation = api.client.get("/openapi.json").json["paths"][path][request.method.lower()]
    return str(answer.status_code) in operation["responses"]


@pytest.mark.parametrize(
    ("path", "media_type"), [("/v1/assets", "image/png"), ("/v1/jobs", "application/json")]
)
def test_a_body_that_is_too_large_is_refused(
    another_api: Callable[..., Api], path: str, media_type: str
) -> None:
    client = another_api(max_upload_bytes=2000).client
    for sent in ({"data": bytes(2001), "content_type": media_type}, form(("file", bytes(2000)))):
        (error,) = refused(client.post(path, **sent), 413, "body_too_large")["errors"]
        assert error["field"] == "body"
        assert error["value"] > 2000
        assert "at most 2000 bytes" in error["accepted"]


def test_a_wrong_method_tells_the_right_ones(api: Api) -> None:
    assert api.client.put("/v1/assets").allow.as_set() == {"post", "options"}
