"""The entry point of a reconciler process: `python -m services.reconciler`."""

import signal
import threading

from services.reconciler import Reconciler
from shared import logs, settings
from shared.database import open_database, schema
from shared.queue import open_queue


def main() -> None:
    configured = settings.load()
    logs.configure(configured)
    database = open_database(configured.database_url)
    schema.check(database)
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    doorbell = open_queue(configured.broker_url)
    reconciler = Reconciler(database, doorbell, configured.sweep_seconds, configured.alive_file)
    reconciler.run(stopping)


if __name__ == "__main__":
    main()
