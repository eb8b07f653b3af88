"""`celery -A tests.system.soft worker`: ours, with Celery's soft shutdown before a cold one."""

from impasto.workers.celery import app

app.conf.worker_soft_shutdown_timeout = 2.0
