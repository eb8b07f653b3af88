"""`spec`, `recipes`, `version`."""

import typer

from .app import REFERENCE, app, console, print_json
from .options import Json


@app.command(rich_help_panel=REFERENCE)
def spec(json: Json = False) -> None:
    """List the fields of a spec: what they accept and mean."""
    from impasto.shared.spec import JobSpec

    from ..client import tables
    from ..client.fields import fields

    if json:
        print_json(JobSpec.model_json_schema())
    else:
        console().print(tables.of_fields(fields(JobSpec)))


@app.command(rich_help_panel=REFERENCE)
def recipes(json: Json = False) -> None:
    """List the recipes: settings that go together, for --recipe."""
    from impasto.shared.recipes import RECIPES

    from ..client import tables

    if json:
        print_json({name: vars(recipe) for name, recipe in RECIPES.items()})
    else:
        console().print(tables.of_recipes(RECIPES))


@app.command(rich_help_panel=REFERENCE)
def version(json: Json = False) -> None:
    """Print the version."""
    from importlib import metadata

    number = metadata.version("impasto")
    if json:
        print_json({"impasto": number})
    else:
        typer.echo(f"impasto {number}")
