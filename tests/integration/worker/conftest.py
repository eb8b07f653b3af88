"""A worker's belongings in this process, over both stacks."""

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete
from torch import Tensor

from impasto.services import submission
from impasto.services.submission import Order
from impasto.services.uploads import Inspections, Upload
from impasto.shared.database import Database, jobs, open_database, schema
from impasto.shared.database.jobs import Job
from impasto.shared.database.tables import metadata
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.storage import Storage, open_storage
from impasto.shared.wakeups import WakeUps
from impasto.workers import weights
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.loop import Loop
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from impasto.workers.lease import LeaseTimings
from impasto.workers.outcomes import JobRunner
from tests.arrange.pictures import paint

SIZE = (64, 48)
CONTENT, STYLE = (Upload(paint(seed, size=SIZE)) for seed in (1, 2))
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
def context(
    database: Database, storage: Storage, vgg: Vgg, decoders: Decoders
) -> Iterator[WorkerContext]:
    with Loop() as loop:
        terms = LeaseTimings(progress_seconds=0.05)
        # However slow the machine is: no checkpoint unless a test asks for one.
        yield WorkerContext(
            database,
            storage,
            loop,
            vgg,
            terms,
            checkpoint_seconds=math.inf,
            decoders=decoders,
        )


@pytest.fixture
def order(database: Database, storage: Storage, decoders: Decoders) -> Callable[..., Job]:
    """Submits a job of two small pictures, with these fields of the spec."""

    def submit(content: Upload = CONTENT, **fields: Any) -> Job:
        asked = Order({**SMALL, **fields}, content=content, styles=[STYLE])
        inspections = Inspections(decoders, max_pixels=10**6)
        return submission.submit(database, storage, WakeUps(), asked, inspections=inspections)[0]

    return submit


def run(context: WorkerContext, stopping: threading.Event | None = None) -> jobs.View:
    """One attempt at the next job, to its end."""
    job = jobs.claim(context.database, worker="test", lease_seconds=context.terms.lease_seconds)
    assert job is not None
    JobRunner(context).run(job, stopping or threading.Event())
    return jobs.view(context.database, job.id)


def ends(view: jobs.View) -> list[str | None]:
    return [attempt.end for attempt in view.attempts]


def wait_until(what: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def after(context: WorkerContext, job_id: str, act: Callable[[Job], object]) -> threading.Thread:
    """Act on a job, on a thread, once its first iteration is reported."""

    def wait() -> None:
        wait_until(lambda: jobs.get(context.database, job_id).iteration >= 1)
        act(jobs.get(context.database, job_id))

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def acting(context: WorkerContext, iteration: int, act: Callable[[], object]) -> WorkerContext:
    """The context, where something happens on the device's thread behind an iteration."""
    return acting_at(context, {iteration: act})


def acting_at(context: WorkerContext, acts: Mapping[int, Callable[[], object]]) -> WorkerContext:
    """The same, behind several iterations."""

    class Acting(Render):
        @staticmethod
        def step_together(renders: Any, **options: Any) -> list[Exception | None]:
            if act := acts.get(renders[0].iteration):
                act()
            return Render.step_together(renders, **options)

    def make(plan: Plan, content: Tensor, styles: list[Style], init: Tensor | None) -> Render:
        return Acting(plan, context.vgg, content, styles, init=init, cache=context.styles)

    return dataclasses.replace(context, make=make)


def is_asked_for_its_state(context: WorkerContext) -> bool:
    """Whether a slot waits for the state that a render has behind the present iteration."""
    return any(run._asked for run in context.loop._runs)


def take_back(context: WorkerContext) -> None:
    """Let the workers' jobs be taken back; a row that is just being written is passed over."""
    wait_until(lambda: jobs.requeue_from(context.database, "test"))


class Store:
    """A storage that asks before each put; what the asked raises, the put raises."""

    def __init__(self, storage: Storage, before_put: Callable[[str], object]) -> None:
        self._storage = storage
        self._before_put = before_put

    def get(self, key: str) -> bytes:
        return self._storage.get(key)

    def put(self, key: str, data: bytes, media_type: str) -> None:
        self._before_put(key)
        self._storage.put(key, data, media_type)
