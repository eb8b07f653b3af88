"""A whole job by the client that openapi-python-client generates as `impasto_api`.

python whole_job.py URL CONTENT STYLE; prints what it saw as JSON.
"""

import io
import json
import sys
import time
from pathlib import Path

from impasto_api import Client
from impasto_api.api.assets import post_assets_upload
from impasto_api.api.jobs import (
    get_jobs_listing,
    get_jobs_losses,
    get_jobs_manifest,
    get_jobs_result,
    get_jobs_show,
    post_jobs_submit,
)
from impasto_api.models import JobDocument, JobSpec, Problem, State, Style
from impasto_api.types import File

url, *paths = sys.argv[1:]
client = Client(url, raise_on_unexpected_status=True)


def uploaded(path: str) -> str:
    picture = File(io.BytesIO(Path(path).read_bytes()))
    return post_assets_upload.sync(client=client, body=picture).id


content, style = map(uploaded, paths)
fields = {"content": content, "styles": [Style(asset=style)], "size": 64, "iterations": 3}
refused = post_jobs_submit.sync(client=client, body=JobSpec(**{**fields, "size": 1}))
assert isinstance(refused, Problem)
job = post_jobs_submit.sync(
    client=client, body=JobSpec(**fields, seed=2**53 - 1), idempotency_key="a key"
)
while job.status in {State.QUEUED, State.RUNNING}:
    time.sleep(0.1)  # between two looks
    job = get_jobs_show.sync(job.id, client=client)
assert isinstance(job, JobDocument)
assert job.status == State.SUCCEEDED, job.error
manifest = get_jobs_manifest.sync(job.id, client=client)
listed = get_jobs_listing.sync(client=client, status=[State.SUCCEEDED])
print(
    json.dumps(
        {
            "refused": [refused.code, refused.errors[0].field],
            "job": job.id,
            "listed": [each.id for each in listed.jobs],
            "warned": [warning.code for warning in job.warnings],
            "seed": manifest.spec.seed,
            "style": manifest.spec.styles[0].asset,
            "sha256": manifest.result.sha256,
            "result": get_jobs_result.sync(job.id, client=client).payload.read().hex(),
            "losses": get_jobs_losses.sync(job.id, client=client),
        }
    )
)
