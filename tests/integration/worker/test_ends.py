"""How attempts end: the real engine, over the databases and storages of both stacks."""

import dataclasses
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import select
from torch import Tensor

from impasto.services.uploads import Upload
from impasto.shared import object_keys
from impasto.shared.database import Database, jobs
from impasto.shared.database.jobs import Job
from impasto.shared.database.tables import attempts
from impasto.shared.errors import (
    DeadlineExceeded,
    DecoderKilled,
    InvalidImage,
    StorageFull,
    Unavailable,
)
from impasto.shared.pictures.codec import Decoded
from impasto.shared.pictures.pool import Decoders
from impasto.shared.spec import JobSpec
from impasto.shared.states import End, State
from impasto.shared.storage import Storage, open_storage
from impasto.workers.attempt import Attempt, WorkerContext
from impasto.workers.engine.device import memory
from impasto.workers.engine.device.arena import Arena
from impasto.workers.engine.loop import Loop
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.render.memory_estimate import fitting_side, min_render_bytes
from impasto.workers.lease import Lease, LeaseTimings
from impasto.workers.outcomes import JobRunner
from impasto.workers.spec_to_plan import plan_of
from tests.arrange.attempts import acting, after, ends, run, take_back
from tests.arrange.jobs import claim
from tests.arrange.orders import CONTENT, SIZE
from tests.arrange.pictures import encode, levels_of_png, noise, paint
from tests.arrange.stores import Forgetful, Store
from tests.arrange.timing import Clock, wait_until


def test_a_render_that_succeeds_leaves_what_its_row_points_to(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order()

    view = run(context)

    result = view.job.result
    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])
    png = context.storage.get(result["key"])
    assert object_keys.digest(png) == result["sha256"]
    assert Image.open(io.BytesIO(png)).size == SIZE
    assert len(context.storage.get(result["losses_key"]).splitlines()) == 1 + 1 + 4
    assert context.storage.get(result["manifest_key"]).startswith(b"{")
    assert [snapshot.iteration for snapshot in view.snapshots] == [2, 4]
    last = context.storage.get(view.snapshots[-1].key)  # but for JPEG, it is the result
    pixels = [np.asarray(Image.open(io.BytesIO(data))).ravel() for data in (last, png)]
    assert np.corrcoef(*pixels)[0, 1] > 0.98


@pytest.mark.parametrize("colors", ["none", "luminance"])  # finished as the result is
def test_snapshots_are_lossless_on_request(
    context: WorkerContext, order: Callable[..., Job], colors: str
) -> None:
    order(snapshot_format="png", original_colors=colors)

    view = run(context)

    last = context.storage.get(view.snapshots[-1].key)
    pictures = [
        Image.open(io.BytesIO(d)) for d in (last, context.storage.get(view.job.result["key"]))
    ]
    assert [picture.format for picture in pictures] == ["PNG", "PNG"]
    assert np.array_equal(*map(np.asarray, pictures))  # the last one is the result


def test_the_manifest_tells_what_a_strength_came_to(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order(strength=0.4)
    by_strength = json.loads(context.storage.get(run(context).job.result["manifest_key"]))
    assert by_strength["spec"]["strength"] == 0.4
    assert by_strength["spec"]["style_weight"] is None
    effective = by_strength["effective"]
    assert effective["content_weight"] == 1
    assert effective["style_weight"] > 0

    named = {name: effective[name] for name in ("content_layers", "style_layers", "style_weight")}
    order(**named)
    by_name = json.loads(context.storage.get(run(context).job.result["manifest_key"]))
    assert by_name["spec"]["strength"] is None
    for name, value in named.items():
        assert by_name["effective"][name] == pytest.approx(value)


def test_the_picture_is_repeatable(context: WorkerContext, order: Callable[..., Job]) -> None:
    digests = set()
    for _ in range(2):
        order(init="noise", seed=5)
        digests.add(run(context).job.result["sha256"])
    order(init="noise", seed=6)

    assert len(digests) == 1
    assert run(context).job.result["sha256"] not in digests


def test_the_colors_of_the_content_can_be_kept(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order(original_colors="luminance")

    picture = Image.open(io.BytesIO(context.storage.get(run(context).job.result["key"])))

    content = Image.open(io.BytesIO(paint(1, size=SIZE))).convert("YCbCr")
    kept = np.corrcoef(
        np.asarray(content)[..., 1].ravel(), np.asarray(picture.convert("YCbCr"))[..., 1].ravel()
    )[0, 1]
    assert kept > 0.8


def test_a_result_is_a_file_as_the_spec_says(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    transparent = Image.open(io.BytesIO(CONTENT.data))
    alpha = noise(3, SIZE).getchannel("G")
    transparent.putalpha(alpha)
    content = Upload(encode(transparent, "PNG"))
    for fields in ({"bits": 16}, {"format": "webp", "quality": 50}, {"format": "jpeg"}):
        order(content=content, **fields)

        result = run(context).job.result

        format = fields.get("format", "png")
        assert result["media_type"] == f"image/{format}"
        data = context.storage.get(result["key"])
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
    context: WorkerContext,
    order: Callable[..., Job],
    spoil: Callable[[Storage, str], object],
    code: str,
) -> None:
    spoil(context.storage, object_keys.asset(order().spec["content"]))

    view = run(context)

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, code)
    assert ends(view) == [End.FAILED]


class Killed(Decoders):
    """On a machine that kills whatever decodes."""

    def decode(self, *_: object) -> Decoded:
        raise DecoderKilled


def test_a_picture_whose_decoders_are_killed_costs_an_attempt(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order()

    view = run(dataclasses.replace(context, decoders=Killed()))

    assert (view.job.state, view.job.failures) == (State.QUEUED, 1)  # it does not go on for ever
    assert ends(view) == [End.RETRIED]


class Tight(Arena):
    """Has no memory for a block of features."""

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        if name.startswith(("relu", "strip")):
            raise torch.OutOfMemoryError(f"none is left for {name}")
        return super().take(name, shape, dtype)


def test_a_render_that_does_not_fit_fails_and_says_what_would_have(
    context: WorkerContext,
    order: Callable[..., Job],
    vgg: Vgg,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(JobSpec.model_validate(order().spec), "float32")
    tight = Vgg(vgg.weights)
    tight.arena = Tight()
    needed = min_render_bytes(plan, SIZE[1], SIZE[0])
    monkeypatch.setattr(memory, "CGROUP", tmp_path)  # a container of so much memory
    (tmp_path / "memory.max").write_text(str(needed // 2))
    (tmp_path / "memory.current").write_text("0")

    view = run(dataclasses.replace(context, vgg=tight))

    side = fitting_side(plan, SIZE[1], SIZE[0], needed // 2)
    assert (view.job.state, view.job.error["code"]) == (State.FAILED, "out_of_memory")
    assert ends(view) == [End.FAILED]
    assert view.job.error["detail"].startswith("64 x 48 px do not fit")
    assert view.job.error["detail"].endswith(f"MiB that are free take a size of up to {side}")
    assert 0 < side < 64


def test_a_loss_that_is_no_number_fails_the_job_at_once(
    context: WorkerContext, order: Callable[..., Job], vgg: Vgg
) -> None:
    broken = {name: tensor.clone() for name, tensor in vgg.weights.tensors.items()}
    broken["conv1_1.bias"][0] = torch.nan
    order()

    view = run(
        dataclasses.replace(context, vgg=Vgg(dataclasses.replace(vgg.weights, tensors=broken)))
    )

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, "diverged")


def test_what_nobody_foresaw_is_tried_again_until_the_budget_is_spent(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    class Broken(Loop):
        def admit(self, *_: Any, **__: Any) -> Any:
            raise ZeroDivisionError("nobody foresaw this")

    order()
    with Broken() as loop:
        context = dataclasses.replace(context, loop=loop)
        views = []
        for _ in range(jobs.FAILURES_MAX):
            # It pauses between attempts.
            wait_until(lambda: jobs.count_runnable(context.database), seconds=60)
            views.append(run(context))

    assert [view.job.state for view in views] == [State.QUEUED, State.QUEUED, State.FAILED]
    assert ends(views[-1]) == [End.RETRIED, End.RETRIED, End.FAILED]
    assert views[-1].job.error["code"] == "render_failed"
    assert "nobody foresaw this" in views[-1].job.error["detail"]


def test_a_worker_that_stops_hands_back_and_no_failure_is_counted(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    stopping = threading.Event()
    thread = after(context, order(iterations=5000).id, lambda _: stopping.set())

    view = run(context, stopping)
    thread.join()

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]


def test_a_cancel_request_reaches_a_running_render(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    job = order(iterations=5000)
    thread = after(context, job.id, lambda job: jobs.request_cancel(context.database, job.id))

    view = run(context)
    thread.join()

    assert (view.job.state, ends(view)) == (State.CANCELLED, [End.CANCELLED])


def test_a_stale_attempt_writes_nothing_more(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    def steal(job: Job) -> None:
        take_back(context)
        claim(context.database, worker="thief")

    job = order(iterations=5000)
    thread = after(context, job.id, steal)

    run(context)
    thread.join()

    view = jobs.view(context.database, job.id)
    assert (view.job.state, view.job.worker, view.job.attempt) == (State.RUNNING, "thief", 2)
    assert view.job.iteration == 0
    assert ends(view) == [End.LEASE_EXPIRED, None]


def test_a_deadline_ends_a_render(context: WorkerContext, order: Callable[..., Job]) -> None:
    job, clock = order(iterations=5000, deadline_seconds=3600), Clock()
    thread = after(context, job.id, lambda _: clock.advance(3600))

    view = run_by(clock, context)
    thread.join()

    assert (view.job.state, view.job.error["code"]) == (State.FAILED, "deadline_exceeded")
    assert ends(view) == [End.FAILED]


def run_by(clock: Clock, context: WorkerContext) -> jobs.View:
    """One attempt at the next job, which its deadline ends; its lease goes by the clock, too."""
    terms = dataclasses.replace(context.terms, lease_seconds=1e6)
    job = claim(context.database, worker="test", lease_seconds=terms.lease_seconds)
    with (
        Lease(context.database, job, terms, threading.Event(), clock) as lease,
        pytest.raises(DeadlineExceeded),
    ):
        Attempt(context, job, lease).render()
    return jobs.view(context.database, job.id)


def test_an_outage_of_the_storage_counts_no_failure(
    tmp_path: Path, context: WorkerContext, order: Callable[..., Job]
) -> None:
    order()
    (tmp_path / "file").write_text("where a folder should be")
    away = open_storage(f"file://{tmp_path / 'file'}")

    class Away:
        """The inputs can still be read, but nothing can be kept."""

        get = staticmethod(context.storage.get)
        put = staticmethod(away.put)

    view = run(dataclasses.replace(context, storage=Away(), outage_seconds=0.5))

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]


class Hanging:
    """Puts of a kind of object hang until they may go on."""

    def __init__(self, part: str) -> None:
        self._part = part
        self.hangs, self.may_go_on = threading.Event(), threading.Event()

    def __call__(self, key: str) -> None:
        if self._part in key:
            self.hangs.set()
            self.may_go_on.wait()

    @contextmanager
    def until_the_end(self) -> Iterator[None]:
        """Hangs in the `with`, from its first line to its last."""
        try:
            wait_until(self.hangs.is_set)
            yield
        finally:
            self.may_go_on.set()


def with_storage(
    context: WorkerContext, before_put: Callable[[str], object], **fields: Any
) -> WorkerContext:
    return dataclasses.replace(context, storage=Store(context.storage, before_put), **fields)


@contextmanager
def beside(act: Callable[[], object]) -> Iterator[None]:
    """Runs on a thread, which ends with the `with`."""
    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_a_cancel_does_not_wait_for_an_upload_that_hangs(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    job, hanging = order(), Hanging("result")

    with beside(lambda: run(with_storage(context, hanging))), hanging.until_the_end():
        jobs.request_cancel(context.database, job.id)
        wait_until(lambda: jobs.get(context.database, job.id).state == State.CANCELLED)

    view = jobs.view(context.database, job.id)
    assert (view.job.state, view.job.result, ends(view)) == (State.CANCELLED, None, [End.CANCELLED])


def test_a_deadline_does_not_wait_for_an_upload_that_hangs(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    job, hanging, clock = order(deadline_seconds=3600), Hanging("result"), Clock()

    with beside(lambda: run_by(clock, with_storage(context, hanging))), hanging.until_the_end():
        clock.advance(3600)
        wait_until(lambda: jobs.get(context.database, job.id).state == State.FAILED)

    view = jobs.view(context.database, job.id)
    assert (view.job.error["code"], ends(view)) == ("deadline_exceeded", [End.FAILED])


def test_a_worker_that_stops_hands_back_also_while_an_upload_hangs(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    job, hanging, stopping = order(), Hanging("result"), threading.Event()
    terms = dataclasses.replace(context.terms, drain_seconds=1.0)

    attempt = beside(lambda: run(with_storage(context, hanging, terms=terms), stopping))
    with attempt, hanging.until_the_end():
        stopping.set()
        wait_until(lambda: jobs.get(context.database, job.id).state == State.QUEUED)

    view = jobs.view(context.database, job.id)
    assert (view.job.state, view.job.failures, ends(view)) == (State.QUEUED, 0, [End.HANDED_BACK])


def test_a_worker_that_stops_while_it_saves_still_ends_the_job(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    stopping = threading.Event()
    order()

    view = run(with_storage(context, lambda key: "result" in key and stopping.set()), stopping)

    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])


def test_an_outage_of_the_storage_is_waited_for(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    refused = []

    def refuse(key: str) -> None:
        if len(refused) < 3:
            refused.append(key)
            raise Unavailable

    order(snapshot_every=0)

    view = run(with_storage(context, refuse))

    assert len(refused) == 3
    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])


def test_a_full_storage_is_not_waited_for(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    def refuse(key: str) -> None:
        raise StorageFull

    order(snapshot_every=0)

    view = run(with_storage(context, refuse))

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]


def has_ended(database: Database) -> bool:
    """Whether an attempt has."""
    with database.read() as connection:
        ended = select(attempts).where(attempts.c.ended_at.is_not(None))
        return connection.execute(ended).first() is not None


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED, State.QUEUED])
def test_a_commit_whose_answer_was_lost_is_found_to_be_made(
    context: WorkerContext, order: Callable[..., Job], end: State
) -> None:
    database = Forgetful(context.database, has_ended)

    def lose(key: str) -> None:
        if "manifest" in key:
            if end == State.FAILED:
                raise InvalidImage
            if end == State.QUEUED:
                raise StorageFull

    order()

    view = run(with_storage(context, lose, database=database))

    assert database.lost == 1
    assert (view.job.state, view.job.failures) == (end, 0)
    assert len(ends(view)) == 1


def test_a_device_that_hangs_loses_its_lease(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    may_go_on = threading.Event()
    terms = LeaseTimings(lease_seconds=3.0, stall_seconds=0.2, progress_seconds=0.05)
    job = order()
    runner = JobRunner(acting(dataclasses.replace(context, terms=terms), 2, may_go_on.wait))
    claimed = claim(context.database, worker="test", lease_seconds=3.0)

    runner.run(claimed, threading.Event())

    with pytest.raises(Unavailable, match="the device hangs"):
        runner.check()
    assert jobs.get(context.database, job.id).state == State.RUNNING
    wait_until(lambda: jobs.requeue_expired(context.database))
    may_go_on.set()
    wait_until(lambda: is_well(runner))
    assert ends(jobs.view(context.database, job.id)) == [End.LEASE_EXPIRED]


def is_well(runner: JobRunner) -> bool:
    try:
        runner.check()
    except Unavailable:
        return False
    return True


def test_a_render_that_waits_for_its_turn_keeps_its_lease(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    """A slow neighbour's iterations are a sign of life of the device that both are on."""
    order(iterations=8)
    terms = LeaseTimings(lease_seconds=2.4, stall_seconds=0.6, progress_seconds=0.05)
    slow = acting(dataclasses.replace(context, terms=terms), 2, lambda: beat(context, seconds=3.6))

    view = run(slow)

    assert ends(view) == [End.SUCCEEDED]


def beat(context: WorkerContext, seconds: float) -> None:
    """What the device does for a neighbour."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        context.loop.progress_counter += 1
        time.sleep(0.05)
