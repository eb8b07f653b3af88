"""Everything that goes wrong, as problem+json (RFC 9457): the one place that translates errors."""

import time
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from apiflask import APIBlueprint
from flask import Response, current_app, json, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from impasto.shared.errors import BodyTooLarge, ImpastoError, Unavailable, Violation
from impasto.shared.violations import presentable

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2

_DRAIN_SECONDS = 20

_log = structlog.get_logger(__name__)

problems = APIBlueprint("problems", __name__, enable_openapi=False)


def respond(document: dict[str, Any]) -> Response:
    """The response that tells a problem."""
    response = Response(json.dumps(document), status=document["status"], content_type=MEDIA_TYPE)
    if request.environ.get("wsgi.input_terminated"):  # else nothing says where the body ends
        response.call_on_close(partial(_drain, request.environ))
    response.cache_control.no_store = True
    if response.status_code == Unavailable.status:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


@problems.app_errorhandler(ImpastoError)
def answer(error: ImpastoError) -> Response:
    if error.status < 500:
        return respond(error.problem())
    # What is broken inside, and where, is for the log.
    if isinstance(error, Unavailable):
        _log.warning("unavailable", detail=error.detail)
        return respond(type(error)().problem())
    _log.error("failed", code=error.code, exc_info=error)
    return respond(ImpastoError().problem())


@problems.app_errorhandler(HTTPException)
def answer_http(error: HTTPException) -> Response:
    """What Flask found wrong before a handler could, or, as 500, what a handler did not expect."""
    if isinstance(error, RequestEntityTooLarge):
        return answer(_too_large())
    status = error.code or 500
    if status >= 500:
        return respond(ImpastoError().problem())  # Flask has logged it
    document = {
        "type": "about:blank",
        "title": error.name,
        "status": status,
        "code": error.name.lower().replace(" ", "_"),
        "detail": error.description,
    }
    response = respond(document | _told(error))
    if isinstance(error, MethodNotAllowed):
        response.allow.update(error.valid_methods or ())
    return response


def _drain(environ: dict[str, Any]) -> None:
    """Read what is left of the body: a client that still sends would see a reset, no answer.

    The answer is on its way by then: the server closes a response after it has sent it.
    """
    deadline = time.monotonic() + _DRAIN_SECONDS
    connection = environ.get("gunicorn.socket")  # waitress has read the body before the request
    with suppress(OSError, ValueError, ImpastoError):  # it may be gone, or send nonsense
        while (left := deadline - time.monotonic()) > 0:
            if connection:
                connection.settimeout(left)
            if not environ["wsgi.input"].read(2**16):
                break


def _told(error: HTTPException) -> dict[str, Any]:
    if error.code == 404:
        return {"detail": f"There is nothing at {presentable(request.path)}."}
    if isinstance(error, MethodNotAllowed):
        accepted = ", ".join(sorted(error.valid_methods or ()))
        return {"errors": [{"field": "method", "value": request.method, "accepted": accepted}]}
    return {}


def _too_large() -> BodyTooLarge:
    accepted = (
        f"at most {request.max_content_length} bytes here,"
        f" and in a form at most {current_app.config['MAX_FORM_MEMORY_SIZE']} bytes of text"
    )
    return BodyTooLarge(violations=[Violation("body", request.content_length, accepted)])
