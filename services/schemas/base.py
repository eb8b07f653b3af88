"""What the documents have in common: JSON that is passed on, refusals, headers."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from impasto.shared.spec import JobSpec


class Document(BaseModel):
    model_config = ConfigDict(frozen=True)


@dataclass(frozen=True)
class As:
    """Marks JSON that is passed on as it was stored: what it is like, a model says.

    It is not read again: a spec of yesterday may be refused by the bounds of today.
    """

    model: type[BaseModel]

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(self.model.__pydantic_core_schema__)


class Refusal(Document):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: a field of the spec, a parameter, a header.")
    value: Any = Field(description="What came, shortened if it was long.")
    accepted: str


class Problem(Document):
    """Why a request was not served, or why a job failed (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="Stable, for programs.")
    detail: str = Field(description="For people.")
    errors: list[Refusal] = Field(default=[], description="All that is wrong, field by field.")


Spec = Annotated[dict[str, Any], As(JobSpec)]
Error = Annotated[dict[str, Any], As(Problem)]


class Located(Document):
    """Headers of an answer that tells of one thing."""

    location: str = Field(alias="Location", description="The URL of the resource.")


class Tagged(Document):
    """Headers of an answer that may be asked for again."""

    etag: str = Field(alias="ETag", description="For If-None-Match.")
