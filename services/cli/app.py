"""The application `impasto`: its help, and the place where errors become one line and a status."""

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from impasto.shared.errors import ImpastoError, InvalidSetting

if TYPE_CHECKING:
    from rich.console import Console

    from impasto.shared.settings import Settings

PANELS = PICTURES, JOBS, SERVICE, REFERENCE = "Pictures", "Jobs", "Service", "Reference"
REFUSED = 2  # the exit status of arguments, settings or pictures that are not accepted
INTERRUPTED = 130  # the exit status that shells know for Ctrl-C


class _Impasto(TyperGroup):
    """All commands: the help that names them, and the edge where errors become one line."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, BrokenPipeError):
            raise  # typer knows what to do
        except Exception as error:
            if ctx.params["debug"]:
                raise
            typer.echo(f"{typer.style('impasto:', fg='red')} {in_one_line(error)}", err=True)
            raise typer.Exit(exit_status(error)) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        # Typer's own imports a Markdown parser and a highlighter, which take longer than all else.
        from rich.console import Console
        from rich.table import Table

        commands, options = Table.grid(padding=(0, 3)), Table.grid(padding=(0, 3))
        panel = ""
        found = vars(self)["commands"].values()
        for command in sorted(found, key=lambda command: PANELS.index(command.rich_help_panel)):
            if command.rich_help_panel != panel:
                panel = command.rich_help_panel
                commands.add_row(f"\n[bold]{panel}")
            commands.add_row(f"  [dark_orange]{command.name}", command.get_short_help_str(100))
        for option in self.get_params(ctx):
            options.add_row(f"  {option.opts[0]}", vars(option)["help"])
        shown = Console(highlight=False)
        shown.print(f"\n{self.help}\n\n  impasto render photo.jpg painting.jpg -o out.png")
        shown.print(commands, "\n[bold]Options", options)
        shown.print("\nEach command tells more: [dark_orange]impasto render --help\n")


app = typer.Typer(
    cls=_Impasto,
    help="Render photographs in the style of paintings.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    pass  # `_Impasto.invoke` looks at it


def settings_of_environment(**given: Any) -> "Settings":
    from impasto.shared import settings

    return settings.load(**given)


def console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def say(line: str) -> None:
    """Tell the person, not the pipe."""
    typer.echo(line, err=True)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def exit_status(error: Exception) -> int:
    """`REFUSED` for what whoever typed the command can mend there, else 1."""
    from ..client.errors import JobFailed  # a job's own error, whatever it was

    is_refusal = isinstance(error, ImpastoError) and error.status == HTTPStatus.UNPROCESSABLE_ENTITY
    is_argument = isinstance(error, InvalidSetting) or is_refusal
    return REFUSED if is_argument and not isinstance(error, JobFailed) else 1


def in_one_line(error: Exception) -> str:
    match error:
        case ImpastoError():
            told = [str(v) for v in error.violations if v.accepted not in error.detail]
            return "; ".join([error.detail, *told])
        case ModuleNotFoundError(name=str(module)) if extra := _extra_with(module):
            return f"this needs {module}: pip install 'impasto[{extra}]'"
        case OSError(filename=str(name), strerror=str(why)):
            return f"{name}: {why}"
    first, *_ = [*str(error).splitlines(), ""]
    return f"{type(error).__name__}: {first} (impasto --debug COMMAND shows where)"


def _extra_with(module: str) -> str | None:
    """The extra of ours that brings a module."""
    from importlib import metadata

    package = module.partition(".")[0]
    for requirement in metadata.requires("impasto") or []:
        if found := re.match(rf"{package}\b.*; extra == ['\"](\w+)['\"]", requirement):
            return found[1]
    return None
