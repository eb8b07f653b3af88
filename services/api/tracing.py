"""A name for each request, on its log lines and its response, and a line when it is done."""

import re
import secrets
import time

import structlog
from flask import Flask, Response, g, request

HEADER = "X-Request-Id"

_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PROBES = {"/healthz", "/readyz"}  # asked every few seconds: of interest to nobody

_log = structlog.get_logger(__name__)


def install(app: Flask) -> None:
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    told = request.headers.get(HEADER, "")
    g.request_id = told if _ACCEPTED.fullmatch(told) else secrets.token_hex(8)
    g.started = time.perf_counter()
    structlog.contextvars.clear_contextvars()  # the thread served others before
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _finish(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.method in {"GET", "HEAD"}:
        response.make_conditional(request)  # 304 where the ETag is known already
    log = _log.debug if request.path in _PROBES else _log.info
    log(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        milliseconds=round((time.perf_counter() - g.started) * 1000, 1),
    )
    return response
