"""The entry point of a worker process: `celery -A impasto.workers worker`."""

import atexit
import os
import socket

from impasto.shared import logs, metrics, settings
from impasto.shared.errors import ImpastoError
from impasto.shared.wakeups.celery import celery_app

from .bootstrap import announce, open_context, open_worker
from .engine.errors import WeightsError
from .tasks import bind_to_celery_signals, refuse_other_pools, register

try:
    _settings = settings.load()
    logs.configure(_settings)
    metrics.serve(_settings.metrics_port)
    _presence = announce(_settings, name=f"{socket.gethostname()}:{os.getpid()}")
    atexit.register(_presence.close)
    _context = open_context(_settings)
except (ImpastoError, WeightsError) as error:
    raise SystemExit(f"worker: {error}") from None  # a line, where Celery would show a traceback

app = celery_app(_settings.broker_url)
app.conf.update(worker_pool="threads", worker_concurrency=_settings.slots)

_worker = open_worker(_settings, _context, _presence)
register(app, _worker)
refuse_other_pools(_settings.slots)
bind_to_celery_signals(app, _worker, _settings.drain_seconds, close=_context.close)
