"""The client reads what the API sends: two models, for servers and clients of different days."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from impasto.services import schemas
from impasto.services.client import documents

PAIRS = {
    documents.Index: schemas.Index,
    documents.JobPage: schemas.JobPage,
    documents.JobSummary: schemas.JobSummary,
    documents.JobDocument: schemas.JobDocument,
}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models(inner)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each field's path, and its type but for the models in it."""
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        inner = list(models(field.annotation))
        if inner and name not in {"spec", "error"}:  # passed on as they are
            yield from fields(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _types(schema["properties"][name], schema.get("$defs", {}))


def _types(node: dict[str, Any], known: dict[str, Any]) -> str:
    if reference := node.get("$ref"):
        return _types(known[reference.rpartition("/")[2]], known)
    if choices := node.get("anyOf"):
        return " or ".join(sorted({_types(choice, known) for choice in choices}))
    return f"{node['type']} {node.get('format', '')}".strip()


@pytest.mark.parametrize("ours", PAIRS, ids=lambda model: model.__name__)
def test_the_client_reads_no_field_that_the_api_does_not_send(ours: type[BaseModel]) -> None:
    sent = dict(fields(PAIRS[ours]))
    for name, type_ in fields(ours):
        assert name in sent
        assert type_ == sent[name], name
