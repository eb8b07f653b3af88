"""openapi.json: what APIFlask cannot say of our handlers by itself."""

from collections.abc import Iterator
from typing import Any

from apiflask import APIFlask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.api import inputs, tracing
from services.api.problems import MEDIA_TYPE
from services.schemas import (
    AssetDocument,
    Index,
    JobDocument,
    JobPage,
    Liveness,
    Problem,
    Readiness,
)
from shared.errors import ImpastoError, Unavailable
from shared.spec import JobSpec

_MODELS = (AssetDocument, Index, JobDocument, JobPage, JobSpec, Liveness, Problem, Readiness)
_REFERENCE = "#/components/schemas/{model}"
_ALWAYS = (ImpastoError, Unavailable)  # may happen to any request

NOT_MODIFIED = {304: {"description": "It is still what If-None-Match names."}}
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
) -> dict[str, Any]:
    """A response in JSON, for `@doc(responses=...)`."""
    return _response(description, _reference(model), "application/json") | {"headers": headers}


def file(description: str, *media_types: str) -> dict[str, Any]:
    """A response that is a stored object."""
    is_json = media_types == ("application/json",)
    schema = {"type": "object"} if is_json else {"type": "string", "format": "binary"}
    return _response(description, schema, *media_types)


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
    app.description = "Renders pictures in the style of paintings."
    app.spec_processor(_complete)


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    _, schemas = models_json_schema(
        [(model, "validation") for model in _MODELS], ref_template=_REFERENCE
    )
    spec["components"]["schemas"] = schemas["$defs"]
    for operation in _operations(spec):
        operation["responses"] |= {
            str(status): response
            for status, response in refusals(*_ALWAYS).items()
            if str(status) not in operation["responses"]
        }
        for parameter in operation["parameters"]:
            _describe(parameter)
        if "304" in operation["responses"]:
            operation["parameters"].append(_IF_NONE_MATCH)
        operation["parameters"].append(_REQUEST_ID)
    return spec


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
