"""Celery's side of a worker: the one task, and where the process begins and ends."""

import structlog
from celery import Celery, signals

from shared.queue import WAKE
from workers.node import Node

_log = structlog.get_logger(__name__)


def register(app: Celery, node: Node) -> None:
    """Let the doorbell ring at a node."""

    # Not shared: Celery would register it with every other application of the process, too.
    @app.task(name=WAKE, ignore_result=True, shared=False)
    def wake() -> None:
        node.work()


def follow_the_process(node: Node, drain_seconds: float) -> None:
    """Let a node live as long as the `celery worker` that it is in."""

    # Celery keeps only weak references to its listeners unless it is told.
    @signals.setup_logging.connect(weak=False)
    def logging_is_set_up(**_: object) -> None:
        """That somebody listens keeps Celery from setting it up in its own way."""

    @signals.worker_ready.connect(weak=False)
    def started(**_: object) -> None:
        node.start()
        _log.info("worker_ready", worker=node.name)

    @signals.worker_shutting_down.connect(weak=False)
    def stopping(**_: object) -> None:
        node.drain()

    @signals.worker_shutdown.connect(weak=False)
    def stopped(**_: object) -> None:
        node.close(drain_seconds)
