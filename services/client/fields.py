"""A model's fields in the words of the command line.

All of it is read from the model's own JSON schema: no bound, default or sentence is retyped.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel

from impasto.shared.spec import RenderSpec

_ASSET_PATTERN = RenderSpec.model_json_schema()["properties"]["content"]["pattern"]


class Kind(StrEnum):
    """How the values of a field are written."""

    NUMBER = "NUMBER"
    FLAG = ""
    CHOICE = "WORD"
    TEXT = "TEXT"
    PATH = "PATH"
    PICTURE = "PICTURE"
    PICTURES = "PICTURE..."
    LAYERS = "LAYERS"
    PAIRS = "NAME=VALUE"


@dataclass(frozen=True)
class Field:
    """What a person needs to know to fill it in."""

    name: str
    kind: Kind
    accepted: str  # empty where the kind says it all
    choices: tuple[str, ...]
    default: str
    description: str

    @property
    def terms(self) -> str:
        """`64 to 2048, default 512`"""
        default = f"default {self.default}" if self.default else ""
        return ", ".join(filter(None, (self.accepted, default)))


def fields(model: type[BaseModel]) -> list[Field]:
    """Every field of a model, in its order.

    Raises TypeError for one that nobody could write on a command line.
    """
    properties = model.model_json_schema()["properties"]
    return [_field(name, node) for name, node in properties.items()]


def _field(name: str, node: dict[str, Any]) -> Field:
    kind, accepted = _kind(name, node)
    choices = tuple(_branch(node)["enum"]) if kind is Kind.CHOICE else ()
    return Field(
        name=name,
        kind=kind,
        accepted=accepted,
        choices=choices,
        default=written(node.get("default")),
        description=node["description"],
    )


def _branch(node: dict[str, Any]) -> dict[str, Any]:
    """Of a union (a number or null, weights or names) the first branch says most."""
    first: dict[str, Any] = node.get("anyOf", [node])[0]
    return first


def _kind(name: str, node: dict[str, Any]) -> tuple[Kind, str]:
    match _branch(node):
        case {"type": "integer", "enum": choices}:
            known = Kind.NUMBER, " | ".join(map(str, choices))
        case {"enum": choices}:
            known = Kind.CHOICE, " | ".join(choices)
        case {"type": "boolean"}:
            known = Kind.FLAG, ""
        case {"type": "integer" | "number"} as number:
            known = Kind.NUMBER, _range(number)
        case {"type": "object", "additionalProperties": {"type": "number"}} as weights:
            none = "" if "minProperties" in weights else " or none"
            known = Kind.LAYERS, f"LAYER,… or LAYER=WEIGHT,…{none}"
        case {"type": "object", "patternProperties": _}:
            known = Kind.PAIRS, ""
        case {"type": "array", "minItems": fewest, "maxItems": most}:
            known = Kind.PICTURES, f"{fewest} to {most} pictures"
        case {"type": "string", "pattern": pattern} if pattern == _ASSET_PATTERN:
            known = Kind.PICTURE, ""
        case {"type": "string", "format": "path"}:
            known = Kind.PATH, ""
        case {"type": "string"}:
            known = Kind.TEXT, ""
        case unknown:
            raise TypeError(f"{name}: nobody could write {unknown} on a command line")
    return known


def _range(number: dict[str, Any]) -> str:
    match number:
        case {"minimum": low, "maximum": high}:
            return f"{_short(low)} to {_short(high)}"
        case {"minimum": low, "exclusiveMaximum": high}:
            return f"{_short(low)} to below {_short(high)}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"above {_short(low)} to {_short(high)}"
        case {"exclusiveMinimum": low}:
            return f"above {_short(low)}"
        case {"minimum": low}:
            return f"{_short(low)} or more"
    return "any number"


def written(value: Any) -> str:
    """A field's value as a person would type it; nothing where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return "on" if value else "off"
        case dict() as weights if all(weight == 1 / len(weights) for weight in weights.values()):
            return ",".join(weights)
        case dict() as weights:
            return ",".join(f"{name}={_short(weight)}" for name, weight in weights.items())
        case int() | float():
            return _short(value)
    return str(value)


def _short(number: float) -> str:
    return f"{number:.0f}" if number == round(number) and abs(number) < 1e9 else f"{number:.3g}"
