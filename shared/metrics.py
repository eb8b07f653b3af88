"""What a process counts of itself, in the words of Prometheus."""

from typing import Any, Literal, get_args

import structlog
from prometheus_client import Counter, start_http_server

from .errors import InvalidSetting, Violation

# The log line that tells of an exception nobody foresaw, and the label by which it is counted.
Event = Literal[
    "attempt_failed",
    "checkpoint_lost",
    "poll_failed",
    "presence_not_told",
    "reconcile_failed",
    "report_failed",
]

wakeups_unsent = Counter(
    "impasto_wakeups_unsent", "Wake-ups that the broker did not take; idle workers poll instead."
)
_unexpected = Counter(
    "impasto_unexpected_errors", "Exceptions that nobody foresaw, by the event logged.", ["event"]
)
for _event in get_args(Event):
    _unexpected.labels(_event)  # at 0, so that the first one is a change


def unexpected(log: structlog.stdlib.BoundLogger, event: Event, **context: Any) -> None:
    """Log the exception that is being handled, with its traceback, and count it.

    For the edge of a loop that has to go on whatever happened.
    """
    log.exception(event, **context)
    _unexpected.labels(event).inc()


def serve(port: int) -> None:
    """Answer `GET /metrics` on every address of this machine, on a thread; not at all on port 0.

    Raises InvalidSetting if the port cannot be had.
    """
    if not port:
        return
    try:
        start_http_server(port)
    except OSError as error:
        accepted = f"a port that is free, or 0 for none; here: {error.strerror}"
        raise InvalidSetting(
            f"IMPASTO_METRICS_PORT={port}: accepted: {accepted}",
            violations=[Violation("metrics_port", port, accepted)],
        ) from error
