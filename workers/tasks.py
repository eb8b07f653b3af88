"""Celery's side of a worker: the one task, and where the process begins and ends."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog
from celery import Celery, bootsteps, concurrency, signals

from impasto.shared.wakeups.celery import WAKE

from .worker import Worker

_log = structlog.get_logger(__name__)

_THREADS = {None, "threads", concurrency.get_implementation("threads")}


def register(app: Celery, worker: Worker) -> None:
    """Work at each wake-up, on the pool's thread, and look at each new connection to the broker."""

    # Not shared: Celery would register it with every other application of the process, too.
    @app.task(name=WAKE, ignore_result=True, shared=False)
    def wake() -> None:
        worker.work()

    class Look(bootsteps.StartStopStep):
        """At each new connection: wake-ups that were sent before it are lost."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, _: object) -> None:
            worker.look()

    app.steps["consumer"].add(Look)


def refuse_other_pools(slots: int) -> None:
    """Exit where a `celery worker` is started with another pool than one thread for each slot.

    A process that is forked has none of the threads that render; other pools do not let one task
    wait beside another.
    """

    @signals.celeryd_init.connect(weak=False)
    def look(options: dict[str, Any], **_: object) -> None:
        # Of `-P prefork`, Celery only hands on what it makes of it: the pool of the settings.
        told = re.search(r" (?:-P|--pool)[ =]?(\w+)", " ".join(sys.argv))
        pool = told[1] if told else "threads"
        if pool != "threads" or options.get("pool_cls") not in _THREADS:
            raise SystemExit(f"worker: --pool {pool}: accepted: threads, which is the default")
        count = options.get("concurrency")
        if count not in {None, 0, slots} or options.get("autoscale"):
            raise SystemExit(
                f"worker: --concurrency {options.get('autoscale') or count}: accepted: {slots}, as"
                " IMPASTO_SLOTS says; set that, and leave the option out"
            )


def bind_to_celery_signals(
    app: Celery, worker: Worker, drain_seconds: float, close: Callable[[], None]
) -> None:
    """Start and stop a worker with the `celery worker` process that it is in.

    drain_seconds: after them the process exits, whatever it waits for: a model that loads, an
    upload that hangs.
    close: called when no slot works any more.
    """

    # Celery keeps only weak references to its listeners unless it is told.
    @signals.setup_logging.connect(weak=False)
    def logging_is_set_up(**_: object) -> None:
        """A listener keeps Celery from setting up logging in its own way."""

    @signals.worker_ready.connect(weak=False)
    def started(**_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            _before(number, stopping)
        worker.start()
        _log.info("worker_ready", worker=worker.name)

    def stopping() -> None:
        worker.drain()
        leave_within(drain_seconds)

    class Stop(bootsteps.StartStopStep):
        """Waits for the worker in a cold shutdown, too, of which no signal of Celery's tells.

        Once Python itself shuts down it is too late: no thread can begin then, and a slot needs
        some to hand back.
        """

        def stop(self, _: object) -> None:
            if worker.close(drain_seconds):
                close()

        terminate = stop

    app.steps["worker"].add(Stop)


def leave_within(seconds: float) -> None:
    """End this process after so long, unless it has ended by then."""
    watchdog = threading.Timer(seconds, _leave)
    watchdog.daemon = True
    watchdog.start()


def _before(number: signal.Signals, act: Callable[[], None]) -> None:
    """Act on a signal before Celery does.

    It tells of a warm shutdown first and waits for the tasks then, but of a cold or soft one only
    after it has waited: for renders that do not know that they are to stop.
    """
    theirs = signal.getsignal(number)

    def both(number: int, frame: FrameType | None) -> None:
        act()
        if callable(theirs):
            theirs(number, frame)

    signal.signal(number, both)


def _leave() -> None:
    _log.warning("left_before_all_was_done")
    os._exit(1)
