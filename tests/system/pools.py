"""`celery -A tests.system.pools worker`: ours but for what it renders with, which takes seconds."""

from impasto.shared.wakeups.celery import celery_app
from impasto.workers.tasks import refuse_other_pools

app = celery_app("memory://")
app.conf.update(worker_pool="threads", worker_concurrency=2)
refuse_other_pools(slots=2)
