"""Pydantic's refusals in our words: the field, the value, and what is accepted.

What is accepted is read from the model's own JSON schema, so no bound is ever retyped.
"""

import math
from typing import Any

from pydantic import BaseModel, ValidationError

from .errors import Violation

_SHOWN_CHARACTERS = 200
_SHOWN_BELOW = 1e20
_KEY = "[key]"  # pydantic's name for the key of an entry, as opposed to its value


def violations(error: ValidationError, model: type[BaseModel]) -> list[Violation]:
    """One `Violation` for each field that `model` refused."""
    schema = model.model_json_schema()
    found: dict[str, Violation] = {}
    for item in error.errors(include_url=False):
        # Pydantic adds a part for the branch of a union or a key that it tried.
        path = tuple(part for part in item["loc"] if not str(part).startswith("function-"))
        field = ".".join(str(part) for part in path if part != _KEY) or "(spec)"
        match item["type"]:
            case "missing":
                value: Any = None
                accepted = f"required: {_accepted(schema, path)}"
            case "extra_forbidden":
                value = item["input"]
                accepted = f"one of the fields {', '.join(_properties(schema, path[:-1]))}"
            case "value_error":
                value = item["input"] if path else None
                accepted = str(item["ctx"]["error"])
            case _:
                value = item["input"]
                accepted = _accepted(schema, path) or item["msg"]
        found.setdefault(field, Violation(field, presentable(value), accepted))
    return list(found.values())


def presentable(value: Any) -> Any:
    """A value as it may stand in a JSON answer: finite, and short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or (isinstance(value, (bool, int, float)) and abs(value) < _SHOWN_BELOW):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def _properties(schema: dict[str, Any], path: tuple[int | str, ...]) -> dict[str, Any]:
    properties: dict[str, Any] = _at(schema, path).get("properties", {})
    return properties


def _at(schema: dict[str, Any], path: tuple[int | str, ...]) -> dict[str, Any]:
    node = schema
    for part in path:
        node = _resolved(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        elif path[-1] == _KEY and part == path[-2]:
            return dict(node.get("propertyNames", {}))
        else:
            node = node.get("properties", {}).get(part) or _entry(node)
    return _resolved(schema, node)


def _entry(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object's values, where the keys are free."""
    patterns = node.get("patternProperties", {}).values()
    return dict(next(iter(patterns), node.get("additionalProperties") or {}))


def _resolved(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    # Of a union (an id or {asset, weight}; a number or null) the first branch describes best.
    while "$ref" in node or "anyOf" in node:
        if "anyOf" in node:
            node = {**node["anyOf"][0], **{k: v for k, v in node.items() if k != "anyOf"}}
        else:
            reference = node["$ref"].removeprefix("#/$defs/")
            node = {
                **schema["$defs"][reference],
                **{k: v for k, v in node.items() if k != "$ref"},
            }
    return node


def _accepted(schema: dict[str, Any], path: tuple[int | str, ...]) -> str:
    node = _at(schema, path)
    accepted: str = node.get("description", "")
    if choices := node.get("enum") or ([node["const"]] if "const" in node else None):
        return f"one of {', '.join(map(str, choices))}"
    match node.get("type"):
        case "boolean":
            accepted = "true or false"
        case "integer":
            accepted = f"a whole number{_bounds(node)}"
        case "number":
            accepted = f"a finite number{_bounds(node)}"
        case "array":
            accepted = f"a list of {_count(node, 'Items')} items"
        case "string":
            accepted = accepted or f"text of {_count(node, 'Length')} characters"
        case "object" if "properties" in node:
            accepted = f"an object with {', '.join(node['properties'])}"
        case "object" if "maxProperties" in node or not accepted:
            accepted = f"an object of {_count(node, 'Properties')} entries"
    return accepted


def _bounds(node: dict[str, Any]) -> str:
    words = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
    )
    limits = [f"{word} {_plain(node[key])}" for key, word in words if key in node]
    return f", {' and '.join(limits)}" if limits else ""


def _plain(number: float) -> str:
    return str(int(number) if number == int(number) else number)  # 1000000, not 1000000.0


def _count(node: dict[str, Any], what: str) -> str:
    return f"{node.get(f'min{what}', 0)} to {node.get(f'max{what}', 'any number of')}"
