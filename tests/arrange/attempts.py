"""Attempts at jobs in this process, by the real engine."""

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from impasto.services.uploads import Upload
from impasto.shared.database import jobs
from impasto.shared.database.jobs import Job
from impasto.shared.storage import Storage
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from impasto.workers.outcomes import JobRunner
from tests.arrange.pictures import paint

SIZE = (64, 48)
CONTENT, STYLE = (Upload(paint(seed, size=SIZE)) for seed in (1, 2))
SMALL = {"size": 64, "iterations": 4, "snapshot_every": 2, "precision": "float32"}


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
