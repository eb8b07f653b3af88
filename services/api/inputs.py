"""Parameters as pydantic models, refused in our words: field, value, and what is accepted."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, get_origin

from apiflask.schema_adapters import registry
from apiflask.schema_adapters.pydantic import PydanticAdapter
from flask import Request, current_app, request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from impasto.shared.errors import (
    AssetNotFound,
    ImpastoError,
    InvalidRequest,
    JobNotFound,
    MalformedRequest,
    NotFound,
    Violation,
)
from impasto.shared.spec import LABEL_NAME, LABEL_VALUE
from impasto.shared.states import State
from impasto.shared.violations import presentable, violations

PAGE_MAX = 200
_HOST = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")


@dataclass(frozen=True)
class PathParameter:
    """A part of an address: its form, and what is missing where it has another."""

    kind: str
    description: str
    pattern: str | None = None
    missing: type[ImpastoError] = NotFound

    def schema(self) -> dict[str, Any]:
        form = {"pattern": f"^{self.pattern}$"} if self.pattern else {}
        return {"type": self.kind, "description": self.description, **form}


PATH_PARAMETERS = {
    "job_id": PathParameter("string", "The job's id.", r"[0-9a-f]{20}", JobNotFound),
    "asset_id": PathParameter(
        "string", "The SHA-256 of the picture's bytes, in hex.", r"[0-9a-f]{64}", AssetNotFound
    ),
    "iteration": PathParameter("integer", "One of the job's `snapshots`."),
}

JobId = Annotated[str, Field(pattern=f"^{PATH_PARAMETERS['job_id'].pattern}$")]
IdempotencyKey = Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,198}[!-~])?$")]


class JobFilters(BaseModel):
    """Which jobs a list has."""

    model_config = ConfigDict(extra="forbid")

    status: list[State] = Field(default=[], description="Jobs of any of these statuses.")
    label: list[
        Annotated[
            str,
            Field(
                pattern=f"^{LABEL_NAME}:{LABEL_VALUE}$",
                description="name:value, a label that a job may have",
            ),
        ]
    ] = Field(default=[], description="Jobs that have all of these labels, each as name:value.")
    limit: int = Field(default=50, ge=1, le=PAGE_MAX, description="How many jobs at most.")
    before: JobId = Field(
        default="",
        description="Only jobs older than the one with this id: the last of the page before.",
    )

    @field_validator("label")
    @classmethod
    def _one_value_per_name(cls, label: list[str]) -> list[str]:
        if len({item.partition(":")[0] for item in label}) < len(label):
            raise ValueError("each name once: a label has one value")
        return label

    def labels(self) -> dict[str, str]:
        return dict(item.split(":", 1) for item in self.label)


class SubmitHeaders(BaseModel):
    """What a submit carries beside its body."""

    idempotency_key: IdempotencyKey = Field(
        default="",
        alias="Idempotency-Key",
        description="1 to 200 printable ASCII characters of your choice."
        " The same key with the same spec gives the same job.",
    )


class Inputs(PydanticAdapter):
    """APIFlask's adapter, taught repeated parameters, our errors, and one name per schema."""

    def validate_input(self, request: Request, location: str, **_kwargs: Any) -> BaseModel:
        values = self._query(request) if location == "query" else self._headers(request)
        try:
            return self.model_class.model_validate(values)
        except ValidationError as error:
            raise InvalidRequest(violations=violations(error, self.model_class)) from error

    def get_openapi_schema(self, **_kwargs: Any) -> dict[str, Any]:
        # The nested ones are added by `openapi`, once each instead of once per parent.
        schema = self.model_class.model_json_schema(ref_template="#/components/schemas/{model}")
        schema.pop("$defs", None)
        return schema

    def _query(self, request: Request) -> dict[str, Any]:
        fields = self.model_class.model_fields
        repeatable = {
            name for name, field in fields.items() if get_origin(field.annotation) is list
        }
        return {
            name: values if name in repeatable or len(values) > 1 else values[0]
            for name, values in request.args.lists()
        }

    def _headers(self, request: Request) -> dict[str, Any]:
        names = (field.alias or "" for field in self.model_class.model_fields.values())
        return {name: request.headers[name] for name in names if name in request.headers}


def check_path() -> None:
    """Raise what is missing for an id that can name nothing; the database never sees it."""
    for name, value in (request.view_args or {}).items():
        known = PATH_PARAMETERS.get(name)
        if known and known.pattern and not re.fullmatch(known.pattern, value):
            raise known.missing(f"nothing has the id {presentable(value)!r}")


def check_target() -> None:
    """Raise NotFound for an address that only a server's leniency would make one of ours.

    Servers decode %2F and drop slashes before the application sees the path; who guards a path in
    front of us might not.
    """
    told = request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path
    path = re.sub(r"^[a-z][a-z0-9+.-]*://[^/?#]*", "", told, flags=re.IGNORECASE)
    if re.search(r"//|%2f", re.split(r"[?#]", path)[0], re.IGNORECASE):
        raise NotFound(f"There is nothing at {presentable(told)}.")


def check_host() -> None:
    """Raise MalformedRequest unless HTTP/1.1 says whom it is for, in the form of a host."""
    host = request.headers.get("Host")
    if request.environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and host is None:
        raise MalformedRequest(violations=[Violation("Host", None, "required with HTTP/1.1")])
    if host and not _HOST.fullmatch(host):
        shown = presentable(host)
        raise MalformedRequest(violations=[Violation("Host", shown, "NAME, or NAME:PORT")])


def check_query() -> None:
    """Raise InvalidRequest for parameters that nobody would look at."""
    view = current_app.view_functions.get(request.endpoint or "")
    taken = getattr(view, "_spec", {}).get("args", ())
    if any(location == "query" for _, location, *_ in taken):
        return  # its model refuses what it does not know
    if wrong := [
        Violation(presentable(name), presentable(value), "no parameters at this address")
        for name, value in request.args.items()
    ]:
        raise InvalidRequest(violations=wrong)


registry.register("pydantic", Inputs)
