"""The entry point of a reconciler process: `python -m impasto.services.reconciler`."""

import signal
import threading

from impasto.shared import logs, metrics, settings
from impasto.shared.database import open_database, schema
from impasto.shared.errors import ImpastoError
from impasto.shared.storage import open_storage
from impasto.shared.wakeups import open_wakeups

from . import Reconciler


def main() -> None:
    try:
        configured = settings.load()
        logs.configure(configured)
        metrics.serve(configured.metrics_port)
        reconciler = _open(configured)
    except ImpastoError as error:
        raise SystemExit(f"reconciler: {error}") from None  # a line, not a traceback
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    reconciler.run(stopping)


def _open(configured: settings.Settings) -> Reconciler:
    database = open_database(configured.database_url)
    schema.check(database)
    return Reconciler(
        database,
        open_storage(configured.storage_url),
        open_wakeups(configured.broker_url),
        reconcile_seconds=configured.reconcile_seconds,
        lease_seconds=configured.lease_seconds,
        retention_days=configured.retention_days,
        alive_file=configured.alive_file,
    )


if __name__ == "__main__":
    main()
