"""Wake-ups between processes, carried by Celery over Redis or Valkey.

Messages are not acknowledged, no result is kept, and every connection times out after a second or
so instead of delaying a request.
"""

import ssl
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection

from .. import urls
from ..errors import InvalidSetting
from . import WakeUps

WAKE = "impasto.wake"
QUEUE = "impasto"

_REDIS_OPTIONS = {
    "max_retries": 0,  # of connecting, for a message; a worker tries again for ever
    "socket_connect_timeout": 1.0,
    "socket_timeout": 1.5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "global_keyprefix": "impasto:",
}
_FILES = {"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
_RECONNECT_SECONDS = 2.0


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


class CeleryWakeUps(WakeUps):
    """Those that reach the workers of other processes, and the subscribers within this one."""

    def __init__(self, broker_url: str) -> None:
        super().__init__()
        self._app = celery_app(broker_url)

    def check(self) -> str | None:
        try:
            with self._app.connection_for_write(connect_timeout=1) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
        except Exception as error:  # a driver's errors have no common root
            return self._told(error)
        return None

    def _send(self) -> None:
        super()._send()
        self._app.send_task(WAKE, ignore_result=True, retry=False)

    def _told(self, error: Exception) -> str:
        told = super()._told(error)
        if "CERTIFICATE_VERIFY_FAILED" in told:
            told += "; IMPASTO_BROKER_URL may name the CA: ?ssl_ca_certs=PATH"
        return told


def celery_app(broker_url: str) -> Celery:
    """The Celery application behind a URL; with `memory://` nothing wakes its worker, which polls.

    Raises InvalidSetting for files of certificates that cannot be read.
    """
    is_redis = broker_url.startswith("redis")
    # Without a host, kombu warns that it takes localhost for one.
    broker = broker_url.partition("?")[0] if is_redis else "memory://localhost"
    app = Celery("impasto", broker=broker, amqp=_Amqp, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        # No acknowledgements: a worker that lost one with its connection would count the message as
        # unfinished for ever, and prefetch no other.
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
        broker_use_ssl=_tls(broker_url),
        broker_transport_options=_REDIS_OPTIONS if is_redis else {},
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker survives any outage of the broker
        task_publish_retry=False,
    )
    return app


def _tls(broker_url: str) -> dict[str, Any] | None:
    """How the certificate of a `rediss://` broker is checked: as the URL says; by default fully."""
    if not broker_url.startswith("rediss://"):
        return None
    options = {"ssl_cert_reqs": "required", **urls.broker_options(broker_url)}
    try:  # now, not at each connection
        context = ssl.create_default_context()
        if options.keys() & {"ssl_ca_certs", "ssl_ca_path"}:
            context.load_verify_locations(options.get("ssl_ca_certs"), options.get("ssl_ca_path"))
        if options.keys() & {"ssl_certfile", "ssl_keyfile"}:
            context.load_cert_chain(options.get("ssl_certfile", ""), options.get("ssl_keyfile"))
    except OSError as error:  # an SSLError is one
        named = ", ".join(f"{name}={it}" for name, it in options.items() if name in _FILES)
        raise InvalidSetting(
            f"IMPASTO_BROKER_URL: {named}: {error}; accepted: files in PEM format that can be read"
        ) from error
    return options
