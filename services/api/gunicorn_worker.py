"""Gunicorn's threads, whose own refusals are problem+json as all others are."""

import socket
from typing import Any

from flask import json
from gunicorn import util
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from impasto.shared.errors import (
    ExpectationFailed,
    HeadersTooLarge,
    ImpastoError,
    MalformedRequest,
    UriTooLong,
)

from .problems import MEDIA_TYPE

_KINDS: dict[type[Exception], type[ImpastoError]] = {
    errors.LimitRequestLine: UriTooLong,
    errors.LimitRequestHeaders: HeadersTooLarge,
    errors.ExpectationFailed: ExpectationFailed,
    errors.ConfigurationProblem: ImpastoError,
    errors.InvalidResponseHeader: ImpastoError,
    errors.InvalidResponseHeaderName: ImpastoError,
    errors.ParseException: MalformedRequest,  # whatever else it finds wrong with a request
}


class Worker(ThreadWorker):
    """`worker_class` of deploy/gunicorn.conf.py."""

    def handle_error(
        self,
        req: Any,  # noqa: ARG002
        client: socket.socket,
        addr: Any,
        exc: Exception,
    ) -> None:
        """Answer a request that never reached the application."""
        kind = next((ours for theirs, ours in _KINDS.items() if isinstance(exc, theirs)), None)
        if kind is None or kind is ImpastoError:
            self.log.exception("Error handling a request")
            problem = ImpastoError().problem()
        else:
            self.log.warning("Invalid request from %s: %s", addr[0] if addr else "", exc)
            problem = kind(str(exc)).problem()
        try:
            util.write(client, _response(problem))
        except OSError as error:
            self.log.debug("Failed to send a problem: %s", error)


def _response(problem: dict[str, Any]) -> bytes:
    body = json.dumps(problem).encode()
    head = (
        f"HTTP/1.1 {problem['status']} {problem['title']}",
        "Connection: close",
        f"Content-Type: {MEDIA_TYPE}",
        "Cache-Control: no-store",
        f"Content-Length: {len(body)}",
    )
    return "\r\n".join((*head, "", "")).encode("latin-1") + body
