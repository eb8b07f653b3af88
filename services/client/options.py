"""Command line options made from a model's fields."""

import functools
import inspect
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import BaseModel
from rich.markup import escape

from .fields import Field, Kind, fields

Command = Callable[..., Any]


@dataclass(frozen=True)
class Option:
    """A field, and the heading under which the help shows it."""

    field: Field
    panel: str

    @property
    def name(self) -> str:
        """`--style-weight`; `--label` for labels, since it is repeated."""
        name = self.field.name
        if self.field.kind is Kind.PAIRS:
            name = name.removesuffix("s")
        return "--" + name.replace("_", "-")


def of(model: type[BaseModel], *, panel: str, but: Collection[str] = ()) -> list[Option]:
    """An option for each field of a model, but for those that are taken in another way."""
    return [Option(field, panel) for field in fields(model) if field.name not in but]


def with_options(command: Command, options: list[Option]) -> Command:
    """The command with these options; its `**given` are the fields that somebody set.

    What nobody sets keeps the model's default, which the help only repeats.
    """
    signature = inspect.signature(command)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]

    @functools.wraps(command)
    def complete(**values: Any) -> Any:
        for field in (option.field for option in options):
            if values[field.name] is None:
                del values[field.name]
            elif field.kind is Kind.PAIRS:
                values[field.name] = dict(values[field.name])
        return command(**values)

    complete.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *map(_parameter, options)]
    )
    return complete


def number(text: str) -> int | float | str:
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text  # the model says what it accepts


def pair(text: str) -> tuple[str, str]:
    """`name=value`"""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE")
    return name, value


def layers(text: str) -> dict[str, int | float | str] | list[str]:
    """`relu1_1,relu2_1`, or with weights `relu1_1=0.3,relu2_1=0.7`, or `none`."""
    parts = text.split(",") if text != "none" else []
    if "=" not in text:
        return parts
    return {layer: number(weight) for layer, weight in map(pair, parts)}


_PARSERS = {Kind.NUMBER: number, Kind.PAIRS: pair, Kind.LAYERS: layers}
_TYPES: dict[Kind, Any] = {
    Kind.NUMBER: str,
    Kind.FLAG: bool,
    Kind.TEXT: str,
    Kind.LAYERS: str,
    Kind.PAIRS: list[str],
    Kind.PATH: Path,
    Kind.PICTURE: Path,
}


def _parameter(option: Option) -> inspect.Parameter:
    field = option.field
    taken: Any = Literal[*field.choices] if field.choices else _TYPES[field.kind]
    terms = f" [dim]{escape(f'[{field.terms}]')}[/dim]" if field.terms else ""
    default = typer.Option(
        None,
        option.name,  # of a flag, too, without --no-...: it is off where nobody sets it
        metavar=field.kind.value,
        parser=_PARSERS.get(field.kind),
        exists=field.kind is Kind.PICTURE,
        dir_okay=field.kind is not Kind.PICTURE,
        help=escape(field.description) + terms,
        rich_help_panel=option.panel,
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=taken | None
    )
