"""openapi.json: what APIFlask cannot say of our handlers by itself."""

import json
import re
from collections.abc import Iterator
from typing import Any

from apiflask import APIFlask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from impasto.shared.errors import (
    ExpectationFailed,
    HeadersTooLarge,
    ImpastoError,
    InvalidRequest,
    MalformedRequest,
    Unavailable,
    UriTooLong,
)
from impasto.shared.spec import JobSpec

from ..schemas import (
    AssetDocument,
    Index,
    JobDocument,
    JobPage,
    Liveness,
    Manifest,
    Problem,
    Readiness,
)
from . import inputs, tracing
from .problems import MEDIA_TYPE

_ANSWERS = (AssetDocument, Index, JobDocument, JobPage, Liveness, Manifest, Problem, Readiness)
_REFERENCE = "#/components/schemas/{model}"
# What may happen to any request: a client mends the first, the servers find the next.
_ALWAYS = (
    *(MalformedRequest, InvalidRequest),
    *(UriTooLong, ExpectationFailed, HeadersTooLarge),
    *(ImpastoError, Unavailable),
)
_TAGS = {
    "Jobs": "Submit jobs, follow them, and download what they made.",
    "Assets": "Upload pictures, addressed by the SHA-256 of their bytes.",
    "Health": "For whoever keeps the service running.",
}

Response = Any  # the type that APIFlask names is narrower than what it takes

NOT_MODIFIED: dict[int, Response] = {304: {"description": "It is still what If-None-Match names."}}
_REQUEST_ID = {
    "name": tracing.HEADER,
    "in": "header",
    "description": "A name for this request, for its log lines and the same header of the answer.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of what the client has already.",
    "schema": {"type": "string"},
}


def document(
    model: type[BaseModel], description: str, *, headers: type[BaseModel] | None = None
) -> Response:
    """A response in JSON, for `@doc(responses=...)`."""
    return _response(description, _reference(model), "application/json") | {"headers": headers}


def file(description: str, *media_types: str) -> Response:
    """A response that is a stored object."""
    return _response(description, {"type": "string", "format": "binary"}, *media_types)


def text(description: str, media_type: str) -> Response:
    """A response that is text."""
    return _response(description, {"type": "string"}, media_type)


def refusals(*errors: type[ImpastoError]) -> dict[int, Any]:
    """The responses that these errors become, by status."""
    lines: dict[int, list[str]] = {}
    for error in errors:
        line = f"`{error.code}`: {(error.__doc__ or '').strip()}"
        lines.setdefault(error.status, []).append(line)
    return {
        status: _response("\n\n".join(told), _reference(Problem), MEDIA_TYPE)
        for status, told in lines.items()
    }


def install(app: APIFlask) -> None:
    app.config["AUTO_OPERATION_ID"] = True
    app.config["AUTO_404_RESPONSE"] = False  # these would be APIFlask's own documents
    app.config["AUTO_VALIDATION_ERROR_RESPONSE"] = False
    app.config["SERVERS"] = [{"url": "/"}]  # not the Host header of whoever asks first
    app.description = (
        "Renders pictures in the style of paintings. Errors are problem+json; parameters, fields"
        " and parts that an address does not know are refused. It has no authentication."
    )
    app.config["INFO"] = {
        "contact": {"name": "The maintainers of Impasto"},
        "license": {"name": "MIT", "identifier": "MIT"},
    }
    app.spec_processor(_complete)


def _complete(spec: Any) -> Any:
    spec["components"]["schemas"] = _schemas()
    spec["security"] = []
    spec["tags"] = [{"name": name, "description": told} for name, told in _TAGS.items()]
    for operation in _operations(spec):
        for status, response in refusals(*_ALWAYS).items():
            told = operation["responses"].setdefault(str(status), response)
            if told is not response and response["description"] not in told["description"]:
                told["description"] += f"\n\n{response['description']}"
        for parameter in operation["parameters"]:
            _describe(parameter)
        if "304" in operation["responses"]:
            operation["parameters"].append(_IF_NONE_MATCH)
        operation["parameters"].append(_REQUEST_ID)
    return spec


def _schemas() -> dict[str, Any]:
    """Of all documents, by name.

    A spec may be written in several ways, and is answered in one: as `JobSpec`, and as
    `JobSpecDocument`. Pydantic tells such two apart as `-Input` and `-Output`.
    """
    models: Any = [(JobSpec, "validation"), *((model, "serialization") for model in _ANSWERS)]
    _, found = models_json_schema(models, ref_template=_REFERENCE)
    as_text = json.dumps(found["$defs"])
    schemas = json.loads(re.sub(r'(\w)-(Input|Output)"', _renamed, as_text))
    return {name: schema | {"title": name} for name, schema in schemas.items()}


def _renamed(match: re.Match[str]) -> str:
    return match[1] + ("Document" if match[2] == "Output" else "") + '"'


def _describe(parameter: dict[str, Any]) -> None:
    if known := inputs.PATH_PARAMETERS.get(parameter["name"]):
        parameter["schema"] = known.schema()
    schema = parameter["schema"]
    parameter["description"] = schema.pop("description")
    if schema.get("default") == "":
        del schema["default"]  # left out, that is


def _operations(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in spec["paths"].values():
        yield from path.values()


def _response(description: str, schema: dict[str, Any], *media_types: str) -> dict[str, Any]:
    content = {media_type: {"schema": schema} for media_type in media_types}
    return {"description": description, "content": content}


def _reference(model: type[BaseModel]) -> dict[str, Any]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}
