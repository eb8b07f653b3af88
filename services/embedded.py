"""The whole service in one process: API, worker and reconciler as threads, over one folder."""

import fcntl
import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog
import waitress
from celery import Celery
from celery.worker import state as worker_state
from waitress import wasyncore

from services.api import create_app
from services.reconciler import Reconciler
from shared import logs, queue
from shared.database import jobs, open_database, schema
from shared.errors import InvalidSetting, Unavailable
from shared.settings import Settings
from shared.storage import open_storage
from workers.presence import Presence

_log = structlog.get_logger(__name__)

_API_THREADS = 8


class Embedded:
    """A running service; leaving the `with` drains it, and what was rendering is handed back.

    The API answers at once; the worker joins when its network is loaded.
    Raises InvalidSetting if another process has the folder or the port.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._stopping = threading.Event()
        self._is_over = threading.Event()
        self.worker: Future[None] = Future()  # done once it claims jobs; fails if it cannot

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._stack.close()

    def wait(self) -> None:
        """Until `stop`; raises what kept the worker from starting."""
        self.worker.add_done_callback(lambda future: future.exception() and self.stop())
        self._is_over.wait()
        if self.worker.done():
            self.worker.result()

    def stop(self) -> None:
        """End `wait`; safe in a signal handler."""
        self._is_over.set()

    def _start(self, stack: ExitStack) -> None:
        settings = self._settings
        stack.callback(_lock(settings.home))
        database = open_database(settings.database_url)
        stack.callback(database.close)
        schema.upgrade(database)
        storage = open_storage(settings.storage_url)
        storage.prepare()
        name = f"{socket.gethostname()}:{settings.home}"
        # We have the folder to ourselves, so whoever had this name before is gone.
        for job in jobs.take_back_from(database, name):
            _log.info("taken_back", job=job.id)
        self.url = self._serve(stack)
        doorbell = queue.open_queue(settings.broker_url)
        reconciler = Reconciler(
            database,
            storage,
            doorbell,
            sweep_seconds=settings.sweep_seconds,
            lease_seconds=settings.lease_seconds,
            retention_days=settings.retention_days,
        )
        self._run(stack, "reconciler", lambda: reconciler.run(self._stopping))
        presence = Presence(
            database, name, slots=settings.slots, lease_seconds=settings.lease_seconds
        )
        self._run(stack, "worker", lambda: self._work(presence, doorbell))

    def _run(self, stack: ExitStack, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        stack.callback(thread.join)

    def _serve(self, stack: ExitStack) -> str:
        settings = self._settings
        app = create_app(settings)
        stack.callback(app.extensions["impasto"].close)
        try:
            listening = socket.create_server((settings.host, settings.port))
        except OSError as error:
            raise InvalidSetting(
                f"cannot listen on {settings.host}:{settings.port}: {error.strerror};"
                " accepted: a free port, or 0 for any"
            ) from error
        stack.callback(listening.close)
        sockets: dict[int, wasyncore.dispatcher] = {}
        server = waitress.create_server(
            app,
            map=sockets,
            sockets=[listening],
            threads=_API_THREADS,
            # Above the application's own bound, so that its refusal is the one that is read.
            max_request_body_size=2 * settings.max_upload_bytes + 2**20,
            clear_untrusted_proxy_headers=True,
        )

        def stop() -> None:
            # The server's own thread closes its sockets, and so ends its loop.
            server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))
            server.task_dispatcher.shutdown()

        self._run(stack, "api", server.run)
        stack.callback(stop)
        host, port = listening.getsockname()[:2]
        return f"http://{host}:{port}"

    def _work(self, presence: Presence, doorbell: Celery) -> None:
        presence.start()
        try:
            # Torch takes seconds to import, and the API does not need it.
            from workers.opening import open_node, open_studio
            from workers.tasks import register

            studio = open_studio(self._settings)
            node = open_node(self._settings, studio, presence)
            register(doorbell, node)
            listener = _Listener(doorbell, self._settings.slots)
        except Exception as error:
            presence.close()
            self.worker.set_exception(error)
            return
        node.start()
        self.worker.set_result(None)
        self._stopping.wait()
        node.drain()
        listener.close()
        node.close(self._settings.drain_seconds)
        studio.loop.close()
        studio.database.close()
        presence.close()


class _Listener:
    """Celery's worker on a thread: it waits for the doorbell, as `celery worker` would."""

    def __init__(self, doorbell: Celery, slots: int) -> None:
        self._doorbell = doorbell
        doorbell.set_default()  # the pool's threads look the task up in the default application
        controller = doorbell.WorkController(
            hostname=f"embedded@{socket.gethostname()}",
            pool="threads",
            concurrency=slots,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            quiet=True,
        )
        self._thread = threading.Thread(target=controller.start, name="doorbell", daemon=True)
        self._thread.start()

    def close(self) -> None:
        worker_state.should_stop = 0
        for _ in range(2):  # it looks at the wish between messages, and waits for one more
            queue.ring(self._doorbell)
        self._thread.join()
        worker_state.should_stop = None


def main(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve until Ctrl-C or SIGTERM.

    announce: is told the address once the API answers, and how to stop.
    """
    logs.configure(settings)
    with Embedded(settings) as service:

        def stop(*_: object) -> None:
            # Whatever it waits for then: a model that loads, an upload that hangs.
            watchdog = threading.Timer(settings.drain_seconds, os._exit, [1])
            watchdog.daemon = True
            watchdog.start()
            service.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
        announce(service.url)
        service.wait()


def _lock(home: Path) -> Callable[[], None]:
    """Take the folder for this process alone; what gives it free again."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "lock").open("w")
    except OSError as error:
        raise Unavailable(f"cannot write to {home}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise InvalidSetting(
            f"another process serves from {home}; stop it, or set IMPASTO_HOME to another folder"
        ) from error
    return file.close
