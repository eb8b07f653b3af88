"""Stored objects as responses, streamed."""

from contextlib import ExitStack

from flask import Response
from werkzeug.wsgi import FileWrapper

from .connections import connections

CHUNK_BYTES = 64 * 2**10
FOREVER_SECONDS = 365 * 86400


def stream(
    key: str,
    *,
    media_type: str,
    filename: str,
    etag: str,
    size_bytes: int | None = None,
    is_final: bool = True,
) -> Response:
    """The object under a key that a row names.

    is_final: whether this address will never give other bytes.
    """
    stack = ExitStack()
    file = stack.enter_context(connections().storage.open(key))
    response = Response(FileWrapper(file, CHUNK_BYTES), content_type=media_type)
    response.call_on_close(stack.close)
    if size_bytes is not None:
        response.content_length = size_bytes
    response.headers.set("Content-Disposition", "inline", filename=filename)
    response.set_etag(etag)
    response.cache_control.private = True
    if is_final:
        response.cache_control.max_age = FOREVER_SECONDS
        response.cache_control.immutable = True
    else:
        response.cache_control.no_cache = True  # may be kept, if it is asked for again
    return response
