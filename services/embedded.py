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
from waitress import wasyncore

from impasto.shared import logs, urls
from impasto.shared.database import jobs, open_database, schema
from impasto.shared.errors import InvalidSetting, Unavailable
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.storage import open_storage
from impasto.shared.wakeups import open_wakeups
from impasto.workers.presence import Presence

from .api import create_app
from .api.waitress_server import create_server
from .reconciler import Reconciler

_log = structlog.get_logger(__name__)

_API_THREADS = 8


class HomeInUse(InvalidSetting):
    """Another process serves from the folder.

    url: where it answers; None while it starts.
    """

    def __init__(self, home: Path, url: str | None) -> None:
        self.url = url
        where = f" on {url}" if url else ""
        super().__init__(
            f"another process serves from {home}{where}; stop it, or set IMPASTO_HOME to another"
            " folder"
        )


class Embedded:
    """A running service; leaving the `with` drains it, and what was rendering is handed back.

    The API answers at once; the worker joins when its network is loaded. With a broker of the
    cluster's, its wake-ups reach other workers, too; for the jobs of other processes it polls.
    renders: without, there is no worker: clients read what is there, and jobs stay queued.
    Raises HomeInUse if another process has the folder, InvalidSetting if one has the port.
    """

    def __init__(self, settings: Settings, *, renders: bool = True) -> None:
        self._settings = settings
        self._renders = renders
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
        self.worker.add_done_callback(self._stop_if_failed)
        self._is_over.wait()
        if self.worker.done():
            self.worker.result()

    def _stop_if_failed(self, worker: "Future[None]") -> None:
        if worker.exception():
            self.stop()

    def stop(self) -> None:
        """End `wait`; safe in a signal handler."""
        self._is_over.set()

    def _start(self, stack: ExitStack) -> None:
        settings = self._settings
        home = stack.enter_context(_Home(settings.home))
        # Started first: it is ready when the first picture comes.
        self._decoders = stack.enter_context(Decoders(children=4, large=2).start())
        self._wakeups = open_wakeups(settings.broker_url)
        database = open_database(settings.database_url)
        stack.callback(database.close)
        schema.upgrade(database)
        storage = open_storage(settings.storage_url)
        storage.prepare()
        name = f"{socket.gethostname()}:{settings.home}"
        # We have the folder to ourselves, so whoever had this name before is gone.
        for job in jobs.requeue_from(database, name):
            _log.info("taken_back", job=job.id)
        self.url = self._serve(stack)
        home.publish(self.url)
        reconciler = Reconciler(
            database,
            storage,
            self._wakeups,
            reconcile_seconds=settings.reconcile_seconds,
            lease_seconds=settings.lease_seconds,
            retention_days=settings.retention_days,
        )
        self._run(stack, "reconciler", lambda: reconciler.run(self._stopping))
        if not self._renders:
            self.worker.set_result(None)
            return
        presence = Presence(
            database, name, slots=settings.slots, lease_seconds=settings.lease_seconds
        )
        self._run(stack, "worker", lambda: self._work(presence))

    def _run(self, stack: ExitStack, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        stack.callback(thread.join)

    def _serve(self, stack: ExitStack) -> str:
        settings = self._settings
        app = create_app(settings, self._decoders, self._wakeups)
        stack.callback(app.extensions["impasto"].close)
        listening = _listen(settings.host, settings.port)
        stack.callback(listening.close)
        sockets: dict[int, wasyncore.dispatcher] = {}
        server = create_server(
            app,
            listening,
            sockets,
            threads=_API_THREADS,
            max_body_bytes=settings.max_upload_bytes,
        )

        def stop() -> None:
            # The server's own thread closes its sockets, and so ends its loop.
            server.trigger.pull_trigger(lambda: wasyncore.close_all(sockets))
            server.task_dispatcher.shutdown()

        self._run(stack, "api", server.run)
        stack.callback(stop)
        return urls.of_http(settings.host, listening.getsockname()[1])

    def _work(self, presence: Presence) -> None:
        with ExitStack() as opened:
            presence.start()
            opened.callback(presence.close)
            try:
                # Torch takes seconds to import, and the API does not need it.
                from impasto.workers.bootstrap import open_context, open_worker

                context = open_context(self._settings, self._decoders)
                opened.callback(context.database.close)
                opened.callback(context.close)
                worker = open_worker(self._settings, context, presence)
            except Exception as error:
                self.worker.set_exception(error)
                return
            self._wakeups.subscribe(worker.begin_work)
            worker.start()
            self.worker.set_result(None)
            self._stopping.wait()
            worker.close(self._settings.drain_seconds)


class _Home:
    """The folder, for this process alone; its lock's file says where the process answers.

    Raises HomeInUse, or Unavailable if the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._file = (self._path / "lock").open("a+")
        except OSError as error:
            raise Unavailable(f"cannot write to {self._path}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            url = self._file.read().strip() or None
            self._file.close()
            raise HomeInUse(self._path, url) from error
        self._file.truncate(0)  # of one that was killed
        return self

    def publish(self, url: str) -> None:
        self._file.write(url)
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.truncate(0)
        self._file.close()


def _listen(host: str, port: int) -> socket.socket:
    """A socket of IPv4 or IPv6; `::` takes both, wherever the system lets one socket do so."""
    is_any = host == "::"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # A name may stand for several addresses: clients try IPv4 for one of this machine.
        family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
        return socket.create_server(
            address, family=family, dualstack_ipv6=is_any and socket.has_dualstack_ipv6()
        )
    except OSError as error:
        raise InvalidSetting(
            f"cannot listen on {host} port {port}: {error.strerror}; accepted: IMPASTO_HOST an"
            " address of this machine or ::, IMPASTO_PORT a free port or 0 for any"
        ) from error


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
