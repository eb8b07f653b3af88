"""Arguments and options that commands share."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from ..client.options import Option


class LazyOptionsCommand(TyperCommand):
    """A command with an option for each field of a model.

    They are made when it is called: to import a model takes longer than `impasto --help` may.
    """

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        from ..client import options

        complete = typer.Typer(add_completion=False, rich_markup_mode="rich")
        own: Any = self.callback
        command = options.with_options(inspect.unwrap(own), self.options())
        complete.command(self.name)(command)
        return typer.main.get_command(complete).make_context(info_name, args, *more, **extra)

    def options(self) -> list["Option"]:
        raise NotImplementedError


class TakesSpec(LazyOptionsCommand):
    def options(self) -> list["Option"]:
        from impasto.shared.spec import JobSpec, RenderSpec

        from ..client import options

        arguments = {"content", "styles"}
        return [
            *options.of(RenderSpec, panel="The picture", but=arguments),
            *options.of(JobSpec, panel="The job", but=RenderSpec.model_fields),
        ]


class TakesSettings(LazyOptionsCommand):
    def options(self) -> list["Option"]:
        from impasto.shared.settings import Settings

        from ..client import options

        return options.of(Settings, panel="Settings")


class Style(NamedTuple):
    """A painting, and its share in the style."""

    path: Path
    share: float


def style(text: str) -> Style:
    """`painting.jpg`, or `painting.jpg=2`."""
    name, equals, share = text.rpartition("=")
    try:
        found = Style(Path(name), float(share)) if equals else Style(Path(text), 1)
    except ValueError:
        found = Style(Path(text), 1)
    if not found.path.is_file():
        raise typer.BadParameter(f"there is no file {str(found.path)!r}")
    return found


Content = Annotated[
    Path,
    typer.Argument(
        exists=True, dir_okay=False, metavar="CONTENT", help="The picture whose shapes are kept."
    ),
]
Styles = Annotated[
    list[Style],
    typer.Argument(
        parser=style,
        metavar="STYLE[=SHARE]",
        help="The paintings whose look is taken; among several, =2 gives one twice the share.",
    ),
]
Masks = Annotated[
    list[Path] | None,
    typer.Option(
        "--mask",
        exists=True,
        dir_okay=False,
        metavar="PICTURE",
        help="Where a style applies: a grey picture, white where it does. Repeat it, in the order"
        " of the styles; those that apply everywhere come last.",
        rich_help_panel="The picture",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Where to write it: .png, .jpg or .webp, which decides the format, unless --format"
        " does; - is the standard output; without it, impasto-JOB with the format's ending.",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Also keep a strip of the snapshots, a plot of the losses, their table and the"
        " manifest, there.",
    ),
]
SpecFile = Annotated[
    Path | None,
    typer.Option(
        "--spec",
        exists=True,
        dir_okay=False,
        allow_dash=True,
        metavar="FILE",
        help="Parameters from a JSON file, - from the standard input: fields as `impasto spec`"
        " lists them, or a job's manifest or status. Options given here go first, and the pictures"
        " are always those of the command line.",
    ),
]
Server = Annotated[
    str | None,
    typer.Option(
        envvar="IMPASTO_API_URL",
        metavar="URL",
        help="The server's address; without it, the one on this machine.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
JobId = Annotated[
    str, typer.Argument(metavar="JOB", help="Its id, as `submit` and `jobs` print it.")
]
