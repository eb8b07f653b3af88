"""The doorbell: Celery carries "there is work", and nothing that anybody would miss.

The database is the queue. So messages are not acknowledged, nothing is kept of a result, and every
connection gives up after a second or so instead of holding a request.
"""

import logging
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import OperationalError

WAKE = "impasto.wake"
QUEUE = "impasto"

_log = logging.getLogger(__name__)

_REDIS_OPTIONS = {
    "max_retries": 0,  # of connecting, for a message; a worker tries again for ever
    "socket_connect_timeout": 1.0,
    "socket_timeout": 1.5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "global_keyprefix": "impasto:",
}
_RECONNECT_SECONDS = 2.0
_MEMORY_OPTIONS = {"polling_interval": 0.02}  # the default of 1 s makes each wake-up late


class _Connection(Connection):
    def ensure_connection(self, *args: Any, **kwargs: Any) -> Any:
        """Connected; tried again at a steady pace.

        Kombu's own pauses grow up to 30 s, so that after a longer outage of the broker a worker
        would stay away for as long. No setting of Celery's reaches them.
        """
        pace = {"interval_start": _RECONNECT_SECONDS, "interval_max": _RECONNECT_SECONDS}
        return super().ensure_connection(*args, **(pace | kwargs))  # type: ignore[no-untyped-call]


class _Amqp(AMQP):  # type: ignore[misc]  # celery has no types
    Connection = _Connection


def open_queue(broker_url: str) -> Celery:
    """The Celery application behind a URL: `redis://...` or, within one process, `memory://`."""
    is_redis = broker_url.startswith("redis")
    # Without a host, kombu warns that it takes localhost for one.
    broker = broker_url if is_redis else "memory://localhost"
    app = Celery("impasto", broker=broker, amqp=_Amqp, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        # No acknowledgements: a worker that lost one, with the broker's connection, would think for
        # ever that it has its share of messages, and wait for no other.
        task_queues={QUEUE: {"exchange": QUEUE, "routing_key": QUEUE, "no_ack": True}},
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=is_redis,  # a busy worker must not keep wake-ups from an idle one
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_transport_options=_REDIS_OPTIONS if is_redis else _MEMORY_OPTIONS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker outlives any outage of the broker
        task_publish_retry=False,
    )
    return app


def ring(app: Celery) -> bool:
    """Wake a worker; whether the message could be sent.

    Never raises: a wake-up that is lost costs a few seconds, for idle workers look by themselves.
    """
    try:
        app.send_task(WAKE, ignore_result=True, retry=False)
    except (OperationalError, OSError) as error:
        _log.warning("wake-up not sent: %s", error)
        return False
    return True


def check(app: Celery) -> str | None:
    """None if the broker answers, else what is wrong."""
    try:
        with app.connection_for_write(connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
    except (OperationalError, OSError) as error:
        return str(error)
    return None
