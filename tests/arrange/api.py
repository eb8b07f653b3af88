"""The API in this process: what is asked of it, and what its workers leave."""

import json
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from impasto.services.api import create_app
from impasto.services.api.connections import Connections
from impasto.shared.database import jobs, schema
from impasto.shared.database.jobs import Claim
from impasto.shared.database.tables import metadata
from impasto.shared.errors import RenderFailed
from impasto.shared.settings import Settings
from tests.arrange.jobs import claim as claim_next
from tests.arrange.jobs import store_snapshot, succeed
from tests.arrange.pictures import paint


class BufferedClient(FlaskClient):
    """Reads each answer to its end and lets go of it, as a server does."""

    def open(self, *args: Any, buffered: bool = True, **kwargs: Any) -> TestResponse:
        return super().open(*args, buffered=buffered, **kwargs)


CLOSED = "127.0.0.1:1"  # where nobody listens


@dataclass(frozen=True)
class Api:
    """An application over its own database and storage."""

    app: APIFlask
    client: FlaskClient

    @property
    def connections(self) -> Connections:
        return self.app.extensions["impasto"]

    def prepare(self) -> Self:
        """Make it ready to serve."""
        schema.upgrade(self.connections.database)
        self.connections.storage.prepare()
        return self

    def stored(self) -> tuple[dict[str, int], list[str]]:
        """The number of rows in each table, and the keys in the storage."""
        with self.connections.database.read() as connection:
            rows = {
                name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for name, table in metadata.tables.items()
            }
        return rows, list(self.connections.storage.keys(""))


def upload(client: FlaskClient, data: bytes) -> str:
    answer = client.post("/v1/assets", data=data, content_type="image/png")
    assert answer.status_code in {200, 201}, answer.text
    return answer.json["id"]


def spec(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    """A spec with pictures that are known, and whatever else."""
    content, style = upload(client, paint(1)), upload(client, paint(2))
    return {"content": content, "styles": [style], "size": 64, "iterations": 3, **fields}


def submit(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/jobs", json=spec(client, **fields))
    assert answer.status_code == 202, answer.text
    return answer.json


def form(*parts: tuple[str, bytes], **texts: str) -> dict[str, Any]:
    """A multipart request; a part's name may come more than once."""
    data: dict[str, Any] = dict(texts)
    for name, content in parts:
        data.setdefault(name, []).append((BytesIO(content), name))
    return {"data": data, "content_type": "multipart/form-data"}


def claim(api: Api, job_id: str) -> Claim:
    """The job, taken as a worker would."""
    database = api.connections.database
    while (job := claim_next(database, worker="test")).id != job_id:
        jobs.fail(database, job.claim, RenderFailed("left over from another test"))
    return job.claim


def finish(api: Api, job_id: str, kind: str = "png") -> dict[str, bytes]:
    """Render the job as a worker would; the bytes that it made, by what they are."""
    taken = claim(api, job_id)
    stores = api.connections.database, api.connections.storage, taken
    made = {
        "result": paint(3, kind),
        "losses": b"iteration,total\n1,2.5\n",
        "manifest": json.dumps(_manifest(api, job_id)).encode(),
    }
    snapshot = paint(4, "JPEG")
    store_snapshot(*stores, 2, snapshot)
    succeed(*stores, media_type=f"image/{kind}", **made)
    return {**made, "snapshot": snapshot}


def _manifest(api: Api, job_id: str) -> dict[str, Any]:
    """In the form of a worker's."""
    job = jobs.get(api.connections.database, job_id)
    result = {"sha256": "0" * 64, "width": 48, "height": 36, "media_type": "image/png"}
    return {
        "job": job.id,
        "spec": job.spec,
        "spec_digest": job.spec_digest,
        "inputs": [job.spec["content"]],
        "weights": {"name": "caffe", "sha256": "0" * 64},
        "seed": 0,
        "iterations": 3,
        "best_iteration": 3,
        "effective": {
            "content_weight": 1.0,
            "style_weight": 1600.0,
            "tv_weight": 0.0,
            "content_layers": {"relu4_2": 1.0},
            "style_layers": {"relu1_1": 1.0},
        },
        "losses": {"total": 2.5, "content": 1.0, "style": 1.5, "tv": 0.0},
        "result": result,
        "attempt": 1,
        "failures": 0,
        "attempts": [{"n": 1, "resumed_from_iteration": 0, "end": None}],
        "resumed_from_iteration": 0,
        "continuation": "exact",
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "platform": "Linux",
        "versions": {"python": "3.11.7"},
        "times": {"began_at": "2026-11-27T07:00:00+00:00"},
    }


def refused(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    """The problem that the answer tells."""
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.content_type == "application/problem+json"
    assert answer.json["status"] == status
    return answer.json


def open_api(stack: ExitStack, settings: Settings) -> Api:
    app = create_app(settings)
    app.test_client_class = BufferedClient
    stack.enter_context(closing(app.extensions["impasto"]))
    return Api(app, app.test_client())
