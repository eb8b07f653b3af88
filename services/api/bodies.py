"""Request bodies: a picture's bytes, a spec, or a form with both."""

import json
from collections import Counter
from typing import Any, BinaryIO

from flask import current_app, request
from pydantic_core import from_json
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from impasto.shared.errors import (
    BodyTooLarge,
    InvalidRequest,
    MalformedRequest,
    UnsupportedMediaType,
    Violation,
)
from impasto.shared.pictures.codec import MEDIA_TYPES
from impasto.shared.spec import STYLES_MAX
from impasto.shared.violations import presentable

from ..submission import Order
from ..uploads import Upload

JSON = "application/json"
FORM = "multipart/form-data"

_FILE = {"type": "string", "format": "binary"}
_SPEC = {"$ref": "#/components/schemas/JobSpec"}

# For openapi.json, where APIFlask knows one media type per body.
PICTURE_BODY = {
    "required": True,
    "content": {
        **{media_type: {"schema": _FILE} for media_type in MEDIA_TYPES},
        FORM: {
            "schema": {
                "type": "object",
                "properties": {"file": _FILE},
                "required": ["file"],
                "additionalProperties": False,
            }
        },
    },
}
ORDER_BODY = {
    "required": True,
    "content": {
        JSON: {"schema": _SPEC},
        FORM: {
            "schema": {
                "type": "object",
                "properties": {
                    "content": _FILE,
                    "style": {
                        "type": "array",
                        "items": _FILE,
                        "minItems": 1,
                        "maxItems": STYLES_MAX,
                    },
                    "mask": {
                        "type": "array",
                        "items": _FILE,
                        "maxItems": STYLES_MAX,
                        "description": "Where each `style` applies, in their order; white is"
                        " where it does. Those that have none come last.",
                    },
                    "init": _FILE,
                    "spec": {
                        "type": "string",
                        "contentMediaType": JSON,
                        "contentSchema": _SPEC,
                        "description": "All else of the spec, as JSON. A picture that is sent is"
                        " left out here; `styles` may be a list of {weight, mask}, one for each"
                        " `style`.",
                    },
                },
                "additionalProperties": False,
            }
        },
    },
}


class _Input:
    """A request body as the server decodes it; where it cannot, the client is to blame."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except Exception as error:  # each server has its own for a bad chunk
            raise MalformedRequest(f"the body cannot be read: {error}") from error


def guard() -> None:
    """Before a request: what a server finds wrong with a body while it is read is a 400.

    Raises MalformedRequest for a transfer coding that no server here decodes.
    """
    coding = request.headers.get("Transfer-Encoding", "chunked")
    if coding.strip().lower() != "chunked":
        shown = presentable(coding)
        raise MalformedRequest(violations=[Violation("Transfer-Encoding", shown, "chunked")])
    request.environ["wsgi.input"] = _Input(request.environ["wsgi.input"])


def picture() -> Upload:
    """The picture in the body. Raises UnsupportedMediaType or InvalidRequest."""
    if request.mimetype == FORM:
        _check_parts("file")
        if file := _file("file"):
            return file
        raise InvalidRequest(violations=[Violation("file", None, "required: a picture")])
    if request.mimetype in {*MEDIA_TYPES, "image/jpg"}:
        return Upload(_body())
    raise _unsupported(*MEDIA_TYPES, FORM)


def order() -> Order:
    """The job that the body asks for.

    Raises UnsupportedMediaType, MalformedRequest or InvalidRequest.
    """
    if request.mimetype == JSON:
        # No larger than in a form, where Flask has this limit for text.
        as_text = current_app.config["MAX_FORM_MEMORY_SIZE"]
        request.max_content_length = min(request.max_content_length or as_text, as_text)
        return Order(_json(_body()))
    if request.mimetype == FORM:
        _check_parts("content", "style", "mask", "init", "spec")
        return Order(
            document=_json(_text("spec") or b"{}"),
            content=_file("content"),
            styles=[_upload(file) for file in request.files.getlist("style")],
            masks=[_upload(file) for file in request.files.getlist("mask")],
            init=_file("init"),
        )
    raise _unsupported(JSON, FORM)


def _body() -> bytes:
    data = request.get_data(cache=False)
    # A body of untold length that is longer than the limit, Werkzeug cuts off without a word.
    is_full = request.content_length is None and len(data) == request.max_content_length
    if is_full and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    return data


def _json(data: bytes) -> Any:
    try:
        document = from_json(data)  # unlike Python's own, it refuses lone surrogates and deep nests
    except ValueError as error:
        raise MalformedRequest(f"this is no JSON: {error}") from error
    # It takes the last of two entries with one name, another reader would take the first.
    json.loads(data, object_pairs_hook=_check_names, parse_int=str, parse_float=str)
    return document


def _check_names(entries: list[tuple[str, Any]]) -> None:
    """Raise MalformedRequest for a name that comes twice in one object."""
    counts = Counter(name for name, _ in entries)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise MalformedRequest(
            violations=[
                Violation(presentable(name), f"{counts[name]} entries", "one") for name in twice
            ]
        )


def _check_parts(*accepted: str) -> None:
    """Raise InvalidRequest for parts that nobody would look at."""
    wrong = []
    for name in request.files.keys() | request.form.keys():
        texts, files = request.form.getlist(name), request.files.getlist(name)
        if name == "spec" and len(texts) + len(files) > 1:
            wrong.append(Violation(name, f"{len(texts) + len(files)} parts", "one part"))
        if name not in accepted:
            wrong.append(Violation(name, "a part of the form", f"parts: {', '.join(accepted)}"))
        elif texts and name != "spec":
            text = presentable(texts[0])
            wrong.append(Violation(name, text, f"a file; with curl: -F {name}=@picture.jpg"))
    if wrong:
        raise InvalidRequest(violations=wrong)


def _file(name: str) -> Upload | None:
    files = request.files.getlist(name)
    if len(files) > 1:
        raise InvalidRequest(violations=[Violation(name, f"{len(files)} files", "one file")])
    return _upload(files[0]) if files else None


def _upload(file: FileStorage) -> Upload:
    return Upload(file.stream.read())


def _text(name: str) -> bytes:
    """The part as bytes, whether it was sent as text or as a file."""
    limit = current_app.config["MAX_FORM_MEMORY_SIZE"]
    file = request.files.get(name)
    data = file.stream.read(limit + 1) if file else request.form.get(name, "").encode()
    if len(data) > limit:
        raise BodyTooLarge(violations=[Violation(name, None, f"at most {limit} bytes")])
    return data


def _unsupported(*accepted: str) -> UnsupportedMediaType:
    told = presentable(request.content_type or "nothing")
    return UnsupportedMediaType(
        violations=[Violation("Content-Type", told, f"one of {', '.join(accepted)}")]
    )
