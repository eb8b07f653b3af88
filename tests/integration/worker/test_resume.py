"""A render goes on where another attempt was, over both stacks' databases and storages."""

import csv
import dataclasses
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from impasto.services.uploads import Upload
from impasto.shared.database import jobs
from impasto.shared.database.jobs import Job
from impasto.shared.errors import Unavailable
from impasto.shared.states import End, State
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.loop import Loop, Run, Stepped
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.render.render import Render
from tests.arrange.attempts import (
    acting,
    acting_at,
    ends,
    is_asked_for_its_state,
    run,
    take_back,
)
from tests.arrange.pictures import paint
from tests.arrange.stores import Store
from tests.arrange.timing import wait_until

SQUARE = Upload(paint(1, size=(64, 64)))  # room for two sizes of a pyramid
NOISE = {"init": "noise", "iterations": 8, "snapshot_every": 2}


# What follows is the engine's part; both stacks are in the other tests.
on_one_stack = pytest.mark.parametrize("stack_settings", ["embedded"], indirect=True)


def stop_at(context: WorkerContext, iteration: int) -> jobs.View:
    """An attempt whose worker is told to stop behind an iteration."""
    stopping = threading.Event()

    def stop() -> None:  # the next iteration waits for the slot to ask for a state
        stopping.set()
        wait_until(lambda: is_asked_for_its_state(context))

    view = run(acting(context, iteration, stop), stopping)
    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    return view


def often(context: WorkerContext) -> WorkerContext:
    return dataclasses.replace(context, checkpoint_seconds=1e-3)


def with_two_checkpoints(
    context: WorkerContext, job: Job, act: Callable[[], object]
) -> WorkerContext:
    """The context, where something happens once two checkpoints of the job are kept, at least.

    The device waits for each: behind iteration 1 and 3 for the slot to ask for the state, behind
    iteration 3 and 5 until the one before is kept.
    """

    def wait_for(count: int, *, is_asked: bool = True) -> None:
        wait_until(lambda: len(jobs.checkpoints(context.database, job.id)) >= count)
        wait_until(lambda: not is_asked or is_asked_for_its_state(context))

    def finish() -> None:
        wait_for(2, is_asked=False)
        act()

    acts = {1: lambda: wait_for(0), 3: lambda: wait_for(1), 5: finish}
    return acting_at(often(context), acts)


def manifest(context: WorkerContext, view: jobs.View) -> dict[str, Any]:
    return json.loads(context.storage.get(view.job.result["manifest_key"]))


@on_one_stack
@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"optimizer": "adam", "learning_rate": 8.0}, 4),
        ({"optimizer": "lbfgs", "patience": 3}, 4),
        ({"optimizer": "lbfgs", "content": SQUARE, "pyramid": 2}, 2),
        ({"optimizer": "adam", "content": SQUARE, "pyramid": 2}, 5),
    ],
    ids=["adam", "lbfgs", "coarse", "fine"],
)
def test_a_render_that_was_interrupted_ends_as_if_it_had_not_been(
    context: WorkerContext, order: Callable[..., Job], fields: dict[str, Any], at: int
) -> None:
    order(**NOISE, **fields)
    whole = run(context)
    order(**NOISE, **fields)

    stop_at(context, at)
    view = run(context)

    resumed_from = view.job.resumed_from_iteration
    assert resumed_from == at + 1
    assert ends(view) == [End.HANDED_BACK, End.SUCCEEDED]
    assert [attempt.resumed_from_iteration for attempt in view.attempts] == [0, resumed_from]
    assert view.job.result["sha256"] == whole.job.result["sha256"]
    assert view.job.loss == whole.job.loss
    assert [taken.iteration for taken in view.snapshots] == [
        taken.iteration for taken in whole.snapshots
    ]
    losses = [
        [row | {"seconds": None} for row in csv.DictReader(io.StringIO(text.decode()))]
        for text in (context.storage.get(end.job.result["losses_key"]) for end in (view, whole))
    ]
    assert losses[0] == losses[1], "but for the seconds, the histories are one"
    found = manifest(context, view)
    assert (found["continuation"], found["resumed_from_iteration"]) == ("exact", resumed_from)
    assert [attempt["end"] for attempt in found["attempts"]] == [End.HANDED_BACK, None]


@on_one_stack
def test_a_render_that_goes_on_from_its_image_alone_ends_elsewhere(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    """What the test before this one would see, if a checkpoint held no more than a picture."""
    for optimizer in ("adam", "lbfgs"):
        order(**NOISE, optimizer=optimizer)
        whole = run(context)
        order(**NOISE, optimizer=optimizer)
        stop_at(context, 4)

        class Forgetful(Render):
            def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
                picture = ("iteration", "losses", "evaluated", "best", "patient_since", "image")
                super().load_state_dict({name: state[name] for name in picture})

        def make(*arguments: Any) -> Stepped:
            plan, content, styles, init = arguments
            return Forgetful(plan, context.vgg, content, styles, init=init)

        view = run(dataclasses.replace(context, make=make))

        assert view.job.state == State.SUCCEEDED
        assert view.job.result["sha256"] != whole.job.result["sha256"]


def test_a_worker_that_vanished_costs_what_came_after_its_checkpoint(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order(**NOISE)
    whole = run(context)
    job = order(**NOISE)

    run(with_two_checkpoints(context, job, lambda: take_back(context)))
    kept = jobs.checkpoints(context.database, job.id)
    view = run(context)

    assert ends(view) == [End.LEASE_EXPIRED, End.SUCCEEDED]
    assert view.job.resumed_from_iteration == kept[0].iteration > kept[1].iteration > 0
    assert len(kept) == 2
    assert view.job.result["sha256"] == whole.job.result["sha256"]
    assert jobs.checkpoints(context.database, job.id) == []


@pytest.mark.parametrize(("damaged", "is_there"), [(1, True), (2, False)])
def test_a_checkpoint_that_is_not_whole_is_passed_over(
    context: WorkerContext, order: Callable[..., Job], damaged: int, is_there: bool
) -> None:
    order(**NOISE)
    whole = run(context)
    job = order(**NOISE)
    stopping = threading.Event()
    run(with_two_checkpoints(context, job, stopping.set), stopping)
    kept = jobs.checkpoints(context.database, job.id)
    for checkpoint in kept[:damaged]:
        data = context.storage.get(checkpoint.key)
        context.storage.delete(checkpoint.key)
        if is_there:  # but for a bit
            context.storage.put(checkpoint.key, data[:-1] + bytes([data[-1] ^ 1]), "")

    with capture_logs() as logs:
        view = run(context)

    logged = [line["key"] for line in logs if line["event"] == "checkpoint_unusable"]
    assert logged == [checkpoint.key for checkpoint in kept[:damaged]]
    assert view.job.resumed_from_iteration == (kept[1].iteration if damaged == 1 else 0)
    assert view.job.result["sha256"] == whole.job.result["sha256"]


@on_one_stack
def test_a_checkpoint_of_another_network_is_not_gone_on_from(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order(**NOISE)
    stop_at(context, 4)
    weights = dataclasses.replace(context.vgg.weights, digest="0" * 64)

    with capture_logs() as logs:
        view = run(dataclasses.replace(context, vgg=Vgg(weights)))

    details = [line["detail"] for line in logs if line["event"] == "checkpoint_unusable"]
    assert details  # a slow machine has left more than one
    assert all("weights_digest" in detail for detail in details)
    assert (view.job.state, view.job.resumed_from_iteration) == (State.SUCCEEDED, 0)


@on_one_stack
def test_a_checkpoint_of_another_place_is_gone_on_from_and_the_manifest_says_so(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    order(**NOISE)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        stop_at(context, 1)
    finally:
        torch.set_num_threads(threads)
    stop_at(context, 3)  # in the same place as the next, but already of two

    view = run(context)

    assert view.job.resumed_from_iteration == 4
    assert manifest(context, view)["continuation"] == "approximate"


def test_a_checkpoint_that_cannot_be_stored_costs_no_render(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    refused = []

    def refuse(key: str) -> None:
        if "/checkpoints/" in key:
            refused.append(key)
            raise Unavailable

    order(**NOISE)

    view = run(dataclasses.replace(often(context), storage=Store(context.storage, refuse)))

    assert refused
    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])


@on_one_stack
def test_an_order_to_stop_that_finds_the_render_over_hands_it_back(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    stopping = threading.Event()

    class Quick(Loop):
        """Every render is over before its slot looks; by then the worker is told to stop."""

        @contextmanager
        def admit(self, *args: Any, **options: Any) -> Iterator[Run]:
            with super().admit(*args, **options) as admitted:
                wait_until(lambda: admitted.state().exception())  # there is no further state
                stopping.set()
                yield admitted

    order(**NOISE)
    with Quick() as loop:
        view = run(dataclasses.replace(context, loop=loop), stopping)

    assert (view.job.state, view.job.failures) == (State.QUEUED, 0)
    assert ends(view) == [End.HANDED_BACK]
    assert run(context).job.state == State.SUCCEEDED


@on_one_stack
def test_a_state_that_is_asked_for_as_the_render_ends_costs_nothing(
    context: WorkerContext, order: Callable[..., Job]
) -> None:
    class Late(Render):
        """Between its last event and its end there is time to read the one, and ask for a state."""

        endings = 0

        @property
        def is_finished(self) -> bool:
            is_finished = super().is_finished
            self.endings += is_finished
            if self.endings == 2:
                wait_until(lambda: is_asked_for_its_state(context))
            return is_finished

    def make(*arguments: Any) -> Stepped:
        plan, content, styles, init = arguments
        return Late(plan, context.vgg, content, styles, init=init)

    order(**NOISE)

    view = run(dataclasses.replace(often(context), make=make))

    assert (view.job.state, ends(view)) == (State.SUCCEEDED, [End.SUCCEEDED])
