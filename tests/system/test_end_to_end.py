"""A photograph becomes a painting, through real processes over real servers."""

import csv
import hashlib
import io
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from impasto.services.client import Client, Job
from impasto.services.client.documents import JobDocument
from tests.arrange.processes import ClusterStack, EmbeddedStack
from tests.arrange.timing import wait_until

Pictures = tuple[Path, Path]

SMALL = {"size": 64, "iterations": 8, "snapshot_every": 3, "precision": "float32"}
# It is cancelled, or handed on, however quick the machine and however slow the test.
ENDLESS = {**SMALL, "iterations": 10_000, "snapshot_every": 0}


def rendering(job: Job) -> bool:
    return job.status().progress.iteration > 0


def goes_on(job: Job) -> bool:
    """Whether a second attempt renders."""
    status = job.status()
    return status.attempt.n == 2 and (
        status.progress.iteration > status.attempt.resumed_from_iteration
    )


def end_of(job: Job) -> JobDocument:
    """The last status, however the job ended; `Job.wait` would raise."""
    return list(job.watch())[-1]


def test_a_job_goes_from_submit_to_its_picture(client: Client, pictures: Pictures) -> None:
    job = client.render(*pictures, **SMALL)

    seen = list(job.watch())

    last = seen[-1]
    assert last.status == "succeeded"
    assert [status.version for status in seen] == sorted({status.version for status in seen})
    assert last.progress.iteration == last.progress.iterations == SMALL["iterations"]
    assert [snapshot.iteration for snapshot in last.snapshots] == [3, 6]
    png = job.result()
    assert hashlib.sha256(png).hexdigest() == last.result.sha256
    assert Image.open(io.BytesIO(png)).size == (64, 48) == (last.result.width, last.result.height)
    for snapshot in last.snapshots:
        taken = Image.open(io.BytesIO(job.snapshot(snapshot.iteration)))
        assert (taken.format, taken.size) == ("JPEG", (64, 48))
    losses = list(csv.DictReader(io.StringIO(job.losses())))
    assert [int(row["iteration"]) for row in losses] == list(range(9))
    assert float(losses[-1]["total"]) < float(losses[0]["total"])
    assert float(losses[-1]["total"]) == pytest.approx(last.loss.total)
    manifest = json.loads(job.manifest())
    assert manifest["result"]["sha256"] == last.result.sha256
    assert manifest["precision"] == "float32"


def test_both_stacks_paint_the_same_picture_to_the_byte(
    embedded: EmbeddedStack, two_workers: ClusterStack, pictures: Pictures
) -> None:
    def paint(url: str) -> bytes:
        with Client(url) as client:
            job = client.render(*pictures, **SMALL, init="noise", seed=7)
            return job.result()

    first, again, elsewhere = paint(embedded.url), paint(embedded.url), paint(two_workers.url)

    assert first == again == elsewhere


def test_two_workers_share_ten_jobs_and_render_none_twice(
    two_workers: ClusterStack, pictures: Pictures
) -> None:
    with Client(two_workers.url) as client:
        jobs = [client.render(*pictures, **SMALL, seed=seed) for seed in range(10)]
        ended = [end_of(job) for job in jobs]

    assert {status.status for status in ended} == {"succeeded"}
    took = Counter(end.worker for status in ended for end in status.attempt.previous)
    assert took.total() == len(jobs)
    assert len(took) == len(two_workers.workers)


def test_a_running_job_is_cancelled_long_before_its_end(client: Client, pictures: Pictures) -> None:
    job = client.render(*pictures, **ENDLESS)
    wait_until(lambda: rendering(job))

    job.cancel()
    status = end_of(job)

    assert status.status == "cancelled"
    assert status.progress.iteration < status.progress.iterations


def test_progress_is_reported_while_it_renders(client: Client, pictures: Pictures) -> None:
    job = client.render(*pictures, **ENDLESS)

    seen = []
    for status in job.watch():
        if status.progress.iteration:
            seen.append(status)
        if len(seen) == 5:
            break
    job.cancel()
    end_of(job)

    iterations = [status.progress.iteration for status in seen]
    assert iterations == sorted(set(iterations))
    assert all(status.loss and status.loss.total > 0 for status in seen)
    assert seen[-1].progress.it_per_s > 0
    assert seen[-1].eta_seconds > 0


def test_a_deadline_ends_a_running_job(client: Client, pictures: Pictures) -> None:
    status = end_of(client.render(*pictures, **ENDLESS, deadline_seconds=1.5))

    assert status.status == "failed"
    assert status.error["code"] == "deadline_exceeded"


def test_a_worker_that_is_told_to_stop_hands_its_job_to_another(
    cluster_environment: dict[str, str], two_workers: ClusterStack, pictures: Pictures
) -> None:
    with Client(two_workers.url) as client:
        job = client.render(*pictures, **ENDLESS)
        wait_until(lambda: rendering(job))
        name = job.status().attempt.worker
        worker = next(each for each in two_workers.workers if name.endswith(f":{each.pid}"))

        worker.stop()
        wait_until(lambda: goes_on(job))
        job.cancel()
        status = end_of(job)
        worker.start()

    assert status.attempt.failures == 0
    assert status.attempt.resumed_from_iteration > 0
    assert [end.end for end in status.attempt.previous] == ["handed_back", "cancelled"]


def test_the_embedded_stack_goes_on_after_it_was_killed(pictures: Pictures) -> None:
    with EmbeddedStack({}) as stack, Client(stack.url) as client:
        job = client.render(*pictures, **ENDLESS)
        waiting = client.render(*pictures, **SMALL)
        wait_until(lambda: rendering(job))

        stack.restart(hard=True)
        wait_until(lambda: goes_on(job))
        job.cancel()
        status = end_of(job)

        assert [end.end for end in status.attempt.previous] == ["lease_expired", "cancelled"]
        assert np.asarray(Image.open(io.BytesIO(waiting.result()))).std() > 0


def test_ctrl_c_drains_the_embedded_stack(pictures: Pictures) -> None:
    with EmbeddedStack({}) as stack, Client(stack.url) as client:
        job = client.render(*pictures, **ENDLESS)
        wait_until(lambda: rendering(job))

        began = time.monotonic()
        stack.stop()
        seconds = time.monotonic() - began
        stack.start()
        wait_until(lambda: goes_on(job))
        job.cancel()
        status = end_of(job)

        assert seconds < 25
        assert status.attempt.failures == 0
        assert status.attempt.resumed_from_iteration > 0
        assert "Traceback" not in stack.output()
