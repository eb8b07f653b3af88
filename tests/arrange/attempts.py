"""Attempts at jobs in this process, by the real engine."""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from impasto.shared.database import jobs
from impasto.shared.database.jobs import Job
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from impasto.workers.outcomes import JobRunner
from tests.arrange.jobs import claim
from tests.arrange.timing import wait_until


def run(context: WorkerContext, stopping: threading.Event | None = None) -> jobs.View:
    """One attempt at the next job, to its end."""
    job = claim(context.database, worker="test", lease_seconds=context.terms.lease_seconds)
    JobRunner(context).run(job, stopping or threading.Event())
    return jobs.view(context.database, job.id)


def ends(view: jobs.View) -> list[str | None]:
    return [attempt.end for attempt in view.attempts]


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
