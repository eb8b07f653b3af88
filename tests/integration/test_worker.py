"""How attempts end: the real engine, over the databases and storages of both stacks."""

import dataclasses
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import delete

from services import submission
from services.submission import Order
from services.uploads import Upload
from shared import keys
from shared.database import Database, jobs, open_database, schema
from shared.database.jobs import Job
from shared.database.tables import metadata
from shared.queue import open_queue
from shared.settings import Settings
from shared.states import End, State
from shared.storage import Storage, open_storage
from tests.pictures import encode, noise, paint
from tests.png import levels_of_png
from workers import weights
from workers.attempt import Studio
from workers.engine.loop import Loop
from workers.engine.vgg import Vgg
from workers.runner import Runner

SIZE = (64, 48)
CONTENT, STYLE = (Upload(paint(seed, size=SIZE), "image/png") for seed in (1, 2))
SMALL = {"size": 64, "iterations": 4, "snapshot_every": 2, "precision": "float32"}


@pytest.fixture(scope="module")
def vgg() -> Vgg:
    return Vgg(weights.load("caffe", Path("unused"), fetch=lambda _: b""))


@pytest.fixture
def database(stack_settings: Settings) -> Iterator[Database]:
    with closing(open_database(stack_settings.database_url)) as database:
        schema.upgrade(database)
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        yield database


@pytest.fixture
def storage(stack_settings: Settings) -> Storage:
    storage = open_storage(stack_settings.storage_url)
    storage.prepare()
    return storage


@pytest.fixture
def studio(database: Database, storage: Storage, vgg: Vgg) -> Iterator[Studio]:
    with Loop() as loop:
        yield Studio(database, storage, loop, vgg, lease_seconds=60, progress_seconds=0.05)


@pytest.fixture
def submit(database: Database, storage: Storage) -> Callable[..., Job]:
    """Submits a job of two small pictures, with these fields of the spec."""

    def submit(content: Upload = CONTENT, **fields: Any) -> Job:
        order = Order({**SMALL, **fields}, content=content, styles=[STYLE])
        doorbell = open_queue("memory://")
        return submission.submit(database, storage, doorbell, order, max_pixels=10**6)[0]

    return submit


def run(studio: Studio, stopping: threading.Event | None = None) -> jobs.View:
    """One attempt at the next job, to its end."""
    job = jobs.claim(studio.database, worker="test", lease_seconds=studio.lease_seconds)
    assert job is not None
    Runner(studio).run(job, stopping or threading.Event())
    return jobs.view(studio.database, job.id)


def ends(view: jobs.View) -> list[str | None]:
    return [attempt.end for attempt in view.attempts]


def after(studio: Studio, job_id: str, act: Callable[[Job], object]) -> threading.Thread:
    """Act on a job, on a thread, once its first iteration is reported."""

    def wait() -> None:
        end = time.monotonic() + 60
        while (job := jobs.get(studio.database, job_id)).iteration < 1:
            assert time.monotonic() < end
            time.sleep(0.02)
        act(job)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_render_that_succeeds_leaves_what_its_row_points_to(
    studio: Studio, submit: Callable[..., Job]
) -> None:
    submit()

    view = run(studio)

    result = view.job.result
    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])
    png = studio.storage.get(result["key"])
    assert keys.digest(png) == result["sha256"]
    assert Image.open(io.BytesIO(png)).size == SIZE
    assert len(studio.storage.get(result["losses_key"]).splitlines()) == 1 + 1 + 4
    assert studio.storage.get(result["manifest_key"]).startswith(b"{")
    assert [snapshot.iteration for snapshot in view.snapshots] == [2, 4]
    last = studio.storage.get(view.snapshots[-1].key)  # but for JPEG, it is the result
    pixels = [np.asarray(Image.open(io.BytesIO(data))).ravel() for data in (last, png)]
    assert np.corrcoef(*pixels)[0, 1] > 0.98


def test_the_picture_is_repeatable(studio: Studio, submit: Callable[..., Job]) -> None:
    digests = set()
    for _ in range(2):
        submit(init="noise", seed=5)
        digests.add(run(studio).job.result["sha256"])
    submit(init="noise", seed=6)

    assert len(digests) == 1
    assert run(studio).job.result["sha256"] not in digests


def test_the_colors_of_the_content_can_be_kept(studio: Studio, submit: Callable[..., Job]) -> None:
    submit(original_colors="luminance")

    picture = Image.open(io.BytesIO(studio.storage.get(run(studio).job.result["key"])))

    content = Image.open(io.BytesIO(paint(1, size=SIZE))).convert("YCbCr")
    kept = np.corrcoef(
        np.asarray(content)[..., 1].ravel(), np.asarray(picture.convert("YCbCr"))[..., 1].ravel()
    )[0, 1]
    assert kept > 0.8


def test_a_result_is_a_file_as_the_spec_says(studio: Studio, submit: Callable[..., Job]) -> None:
    transparent = Image.open(io.BytesIO(CONTENT.data))
    alpha = noise(3, SIZE).getchannel("G")
    transparent.putalpha(alpha)
    content = Upload(encode(transparent, "PNG"), "image/png")
    for fields in ({"bits": 16}, {"format": "webp", "quality": 50}, {"format": "jpeg"}):
        submit(content=content, **fields)

        result = run(studio).job.result

        format = fields.get("format", "png")
        assert result["media_type"] == f"image/{format}"
        data = studio.storage.get(result["key"])
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.size) == (format.upper(), SIZE)
            if format != "jpeg":
                assert np.array_equal(picture.getchannel("A"), alpha)
        if format == "png":
            levels = levels_of_png(data)[..., :3]
            assert (levels % 257 != 0).mean() > 0.5  # more than eight bits would hold


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda storage, key: storage.delete(key), "object_not_found"),
        (lambda storage, key: (storage.delete(key), storage.put(key, b"?", "")), "invalid_image"),
    ],
    ids=["gone", "damaged"],
)
def test_an_input_that_cannot_be_read_fails_the_job_at_once(
    studio: Studio, submit: Callable[..., Job], spoil: Callable[[Storage, str], object], code: str
) -> None:
    spoil(studio.storage, keys.asset(submit().spec["content"]))

    view = run(studio)

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, code)
    assert ends(view) == [End.FAILED]


def test_a_loss_that_is_no_number_fails_the_job_at_once(
    studio: Studio, submit: Callable[..., Job], vgg: Vgg
) -> None:
    broken = {name: tensor.clone() for name, tensor in vgg.weights.tensors.items()}
    broken["conv1_1.bias"][0] = torch.nan
    submit()

    view = run(
        dataclasses.replace(studio, vgg=Vgg(dataclasses.replace(vgg.weights, tensors=broken)))
    )

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, "diverged")


def test_what_nobody_foresaw_is_tried_again_until_the_budget_is_spent(
    studio: Studio, submit: Callable[..., Job]
) -> None:
    class Broken(Loop):
        def admit(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("nobody foresaw this")

    submit()
    with Broken() as loop:
        studio = dataclasses.replace(studio, loop=loop)
        views = []
        for _ in range(jobs.FAILURES_MAX):
            end = time.monotonic() + 60
            while not jobs.count_runnable(studio.database):  # the pause between attempts
                assert time.monotonic() < end
                time.sleep(0.05)
            views.append(run(studio))

    assert [view.job.state for view in views] == [State.QUEUED, State.QUEUED, State.FAILED]
    assert ends(views[-1]) == [End.RETRIED, End.RETRIED, End.FAILED]
    assert views[-1].job.error["code"] == "render_failed"
    assert "nobody foresaw this" in views[-1].job.error["detail"]


def test_a_worker_that_stops_hands_back_and_no_failure_is_counted(
    studio: Studio, submit: Callable[..., Job]
) -> None:
    stopping = threading.Event()
    thread = after(studio, submit(iterations=5000).id, lambda _: stopping.set())

    view = run(studio, stopping)
    thread.join()

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]


def test_a_wish_to_cancel_reaches_a_running_render(
    studio: Studio, submit: Callable[..., Job]
) -> None:
    job = submit(iterations=5000)
    thread = after(studio, job.id, lambda job: jobs.request_cancel(studio.database, job.id))

    view = run(studio)
    thread.join()

    assert (view.job.state, ends(view)) == (State.CANCELLED, [End.CANCELLED])


def test_a_stale_attempt_writes_nothing_more(studio: Studio, submit: Callable[..., Job]) -> None:
    def steal(job: Job) -> None:
        jobs.take_back_from(studio.database, "test")
        jobs.claim(studio.database, worker="thief", lease_seconds=60)

    job = submit(iterations=5000)
    thread = after(studio, job.id, steal)

    run(studio)
    thread.join()

    view = jobs.view(studio.database, job.id)
    assert (view.job.state, view.job.worker, view.job.attempt) == (State.RUNNING, "thief", 2)
    assert view.job.iteration == 0
    assert ends(view) == [End.LEASE_EXPIRED, None]


def test_a_deadline_ends_a_render(studio: Studio, submit: Callable[..., Job]) -> None:
    submit(iterations=5000, deadline_seconds=1.0)

    view = run(studio)

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, "deadline_exceeded")


def test_an_outage_of_the_storage_counts_no_failure(
    tmp_path: Path, studio: Studio, submit: Callable[..., Job]
) -> None:
    submit()
    (tmp_path / "file").write_text("where a folder should be")
    away = open_storage(f"file://{tmp_path / 'file'}")

    class Away:
        """The inputs can still be read, but nothing can be kept."""

        get = staticmethod(studio.storage.get)
        put = staticmethod(away.put)

    view = run(dataclasses.replace(studio, storage=Away()))

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]
