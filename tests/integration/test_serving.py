"""The API behind the servers that serve it: what Flask's test client cannot show."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2 as httpx
import pytest

from impasto.services.embedded import Embedded
from impasto.shared import object_keys
from impasto.shared.settings import Settings
from tests.arrange.paths import ROOT
from tests.arrange.pictures import paint
from tests.arrange.processes import Api
from tests.arrange.stores import prepare

MAX_BYTES = 1_000_000


@pytest.fixture(scope="module", params=["gunicorn", "waitress"])
def http(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of either server: as the cluster, and as the embedded stack serves."""
    home = tmp_path_factory.mktemp("home")
    with ExitStack() as stack:
        if request.param == "waitress":
            settings = Settings(home=home, port=0, max_upload_bytes=MAX_BYTES)
            url = stack.enter_context(Embedded(settings, renders=False)).url
        else:
            prepare(Settings(home=home))
            limits = {"IMPASTO_HOME": str(home), "IMPASTO_MAX_UPLOAD_BYTES": str(MAX_BYTES)}
            url = stack.enter_context(Api(limits)).url
        yield stack.enter_context(httpx.Client(base_url=url, timeout=20))


def in_pieces(data: bytes) -> Iterator[bytes]:
    """Sent without a Content-Length."""
    for start in range(0, len(data), 10_000):
        yield data[start : start + 10_000]


def test_a_picture_goes_in_and_out_in_pieces(http: httpx.Client) -> None:
    data = paint(1, size=(560, 560))
    headers = {"Content-Type": "image/png"}
    answer = http.post("/v1/assets", content=in_pieces(data), headers=headers)
    assert answer.status_code == 201, answer.text
    with http.stream("GET", f"{answer.headers['Location']}/content") as content:
        assert content.headers["Content-Length"] == str(len(data))
        assert content.read() == data


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "in pieces"])
def test_a_body_as_large_as_the_limit_is_accepted_whole(http: httpx.Client, is_told: bool) -> None:
    data = paint(2 + is_told).ljust(MAX_BYTES, b"\0")  # decoders stop at a picture's end
    body = data if is_told else in_pieces(data)
    answer = http.post("/v1/assets", content=body, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["id"] == object_keys.digest(data)


@pytest.mark.parametrize("is_told", [True, False], ids=["told", "in pieces"])
def test_a_body_that_is_too_large_is_a_problem_and_no_reset(
    http: httpx.Client, is_told: bool
) -> None:
    data = bytes(3 * MAX_BYTES)
    body = data if is_told else in_pieces(data)
    answer = http.post("/v1/assets", content=body, headers={"Content-Type": "image/png"})
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == "body"
    assert http.get("/healthz").status_code == 200


def test_a_large_body_of_the_wrong_type_is_a_problem_and_no_reset(http: httpx.Client) -> None:
    answer = http.post("/v1/jobs", content=bytes(MAX_BYTES), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert http.get("/healthz").status_code == 200


def test_head_sends_no_body(http: httpx.Client) -> None:
    answer = http.head("/v1/jobs")
    assert (answer.status_code, answer.content) == (200, b"")
    assert http.get("/v1/jobs").json()["jobs"] == []


def test_the_api_serves_where_torch_cannot_be_imported(tmp_path: Path) -> None:
    script = """
import sys
from io import BytesIO

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "safetensors"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())

from impasto.services.api.wsgi import application
from impasto.shared.database import schema
from tests.arrange.pictures import paint

app = application()
schema.upgrade(app.extensions["impasto"].database)
client = app.test_client()
pictures = {name: (BytesIO(paint(seed)), name) for seed, name in enumerate(["content", "style"])}
answer = client.post("/v1/jobs", data=pictures)
assert answer.status_code == 202, answer.text
print(client.get(answer.location).json["status"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"IMPASTO_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "queued\n"), done.stderr
