"""The command `impasto`.

A command imports what it needs when it runs, so that `impasto --help` is there at once.
"""

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from shared.errors import ImpastoError, InvalidSpec, ResultExpired
from shared.states import State

if TYPE_CHECKING:
    from rich.console import Console

    from services.client import Client, Job, Order
    from services.client.options import Option
    from shared.settings import Settings

PICTURES, JOBS, SERVICE, REFERENCE = "Pictures", "Jobs", "Service", "Reference"
STUCK_SECONDS = 10.0  # so long a service of our own may be unable to render
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
            typer.echo(f"{typer.style('impasto:', fg='red')} {_in_one_line(error)}", err=True)
            raise typer.Exit(2 if isinstance(error, InvalidSpec) else 1) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        # Typer's own imports a Markdown parser and a highlighter, which take longer than all else.
        from rich.console import Console
        from rich.table import Table

        commands, options = Table.grid(padding=(0, 3)), Table.grid(padding=(0, 3))
        panel = ""
        for command in vars(self)["commands"].values():
            if command.rich_help_panel != panel:
                panel = command.rich_help_panel
                commands.add_row(f"\n[bold]{panel}")
            commands.add_row(f"  [dark_orange]{command.name}", command.get_short_help_str(100))
        for option in self.get_params(ctx):
            options.add_row(f"  {option.opts[0]}", vars(option)["help"])
        console = Console(highlight=False)
        console.print(f"\n{self.help}\n\n  impasto render photo.jpg painting.jpg -o out.png")
        console.print(commands, "\n[bold]Options", options)
        console.print("\nEach command tells more: [dark_orange]impasto render --help\n")


class _Late(TyperCommand):
    """A command with an option for each field of a model.

    They are made when it is called: to import a model takes longer than `impasto --help` may.
    """

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        from services.client import options

        complete = typer.Typer(add_completion=False, rich_markup_mode="rich")
        own: Any = self.callback
        command = options.added(inspect.unwrap(own), self.options())
        complete.command(self.name)(command)
        return typer.main.get_command(complete).make_context(info_name, args, *more, **extra)

    def options(self) -> list["Option"]:
        raise NotImplementedError


class _TakesSpec(_Late):
    def options(self) -> list["Option"]:
        from services.client import options
        from shared.spec import JobSpec, RenderSpec

        arguments = {"content", "styles"}
        return [
            *options.of(RenderSpec, panel="The picture", but=arguments),
            *options.of(JobSpec, panel="The job", but=RenderSpec.model_fields),
        ]


class _TakesSettings(_Late):
    def options(self) -> list["Option"]:
        from services.client import options
        from shared.settings import Settings

        return options.of(Settings, panel="Settings")


class Style(NamedTuple):
    """A painting, and its share in the style."""

    path: Path
    share: float


def _style(text: str) -> Style:
    """`painting.jpg`, or `painting.jpg=2`."""
    name, equals, share = text.rpartition("=")
    try:
        style = Style(Path(name), float(share)) if equals else Style(Path(text), 1)
    except ValueError:
        style = Style(Path(text), 1)
    if not style.path.is_file():
        raise typer.BadParameter(f"there is no file {str(style.path)!r}")
    return style


Content = Annotated[
    Path,
    typer.Argument(
        exists=True, dir_okay=False, metavar="CONTENT", help="The picture whose shapes are kept."
    ),
]
Styles = Annotated[
    list[Style],
    typer.Argument(
        parser=_style,
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
        " does; without it, impasto-JOB with the format's ending.",
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


@app.command(cls=_TakesSpec, rich_help_panel=PICTURES)
def render(
    content: Content,
    styles: Styles,
    *,
    output: Output = None,
    report: Report = None,
    masks: Masks = None,
    server: Server = None,
    **fields: Any,
) -> None:
    """Render a picture, watch it, and keep it.

    Where no server is running, one is started for this picture. Ctrl-C cancels the job.
    """
    if output:
        from services.client.files import format_of

        fields.setdefault("format", format_of(output))
    order = _order(content, styles, masks, fields)
    _check_outputs(output, report)
    with _connected(server, or_own=True) as client:
        job = client.place(order)
        try:
            _follow(job)
        except KeyboardInterrupt:
            job.cancel()
            _say(f"job {job.id} is cancelled")
            raise typer.Exit(INTERRUPTED) from None
        _keep(job, output, report)


@app.command(cls=_TakesSpec, rich_help_panel=PICTURES)
def submit(
    content: Content,
    styles: Styles,
    masks: Masks = None,
    server: Server = None,
    json: Json = False,
    **fields: Any,
) -> None:
    """Submit a picture, print the job's id and leave."""
    order = _order(content, styles, masks, fields)
    with _connected(server) as client:
        job = client.place(order)
        typer.echo(job.status().model_dump_json(indent=2) if json else job.id)


@app.command(rich_help_panel=PICTURES)
def download(
    job: JobId, output: Output = None, report: Report = None, server: Server = None
) -> None:
    """Keep what a job rendered, once it is there."""
    _check_outputs(output, report)
    with _connected(server) as client:
        _keep(client.job(job), output, report)


@app.command(rich_help_panel=JOBS)
def watch(job: JobId, server: Server = None, json: Json = False) -> None:
    """Show how a job goes, until it has ended. Ctrl-C only stops watching."""
    with _connected(server) as client:
        if json:
            for status in client.job(job).watch():
                typer.echo(status.model_dump_json())
        else:
            _follow(client.job(job))
        client.job(job).wait()


@app.command(rich_help_panel=JOBS)
def status(job: JobId, server: Server = None, json: Json = False) -> None:
    """Show how a job stands."""
    from services.client import tables

    with _connected(server) as client:
        document = client.job(job).status()
    if json:
        typer.echo(document.model_dump_json(indent=2))
    else:
        _console().print(tables.of_job(document, datetime.now(UTC)))


@app.command(rich_help_panel=JOBS)
def jobs(
    status: Annotated[
        list[State] | None,
        typer.Option(
            metavar="STATUS",
            help=f"Only jobs that are {', '.join(State)}; repeat it for several.",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE", help="Only jobs with this label; repeat it for several."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many at most.")] = 20,
    server: Server = None,
    json: Json = False,
) -> None:
    """List jobs, the newest first."""
    from services.client import tables
    from services.client.options import pair

    labels = dict(map(pair, label or []))
    with _connected(server) as client:
        found = list(islice(client.jobs(status=status or [], labels=labels), limit))
    if json:
        _print_json([job.model_dump(mode="json") for job in found])
    elif found:
        _console().print(tables.of_jobs(found, datetime.now(UTC)))
    else:
        _say("there are no such jobs" if status or label else "there are no jobs yet")


@app.command(rich_help_panel=JOBS)
def cancel(job: JobId, server: Server = None) -> None:
    """Cancel a job; one that has ended stays as it is."""
    from services.client.progress import activity

    with _connected(server) as client:
        client.job(job).cancel()
        _say(f"job {job}: {activity(client.job(job).status())}")


@app.command(cls=_TakesSettings, rich_help_panel=SERVICE)
def up(**given: Any) -> None:
    """Serve on this machine, until Ctrl-C.

    API, worker and reconciler are one process; what they know lies in one folder.
    """
    settings = _settings(**given)
    from services import embedded

    def announce(url: str) -> None:
        _say(f"Impasto serves on {url}, from {settings.home}; Ctrl-C stops it")

    embedded.main(settings, announce)


@app.command(rich_help_panel=SERVICE)
def migrate() -> None:
    """Bring the database up to date, and make the storage."""
    settings = _settings()
    from shared.database import open_database, schema
    from shared.storage import open_storage

    with closing(open_database(settings.database_url)) as database:
        schema.upgrade(database)
        version = schema.version(database)
    open_storage(settings.storage_url).prepare()
    _say(f"the database is at {version}, the storage is ready")


@app.command(rich_help_panel=SERVICE)
def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Look whether objects are there, but read none.")
    ] = False,
    json: Json = False,
) -> None:
    """Look for promises that were broken: jobs, leases and objects; status 1 if there are any.

    It only reads, and the service may go on.
    """
    from services import invariants
    from services.client import tables
    from shared.database import open_database, schema, workers
    from shared.storage import open_storage

    settings = _settings()
    bounds = invariants.Bounds(settings.lease_seconds, settings.sweep_seconds)
    with closing(open_database(settings.database_url)) as database:
        schema.check(database)
        storage = open_storage(settings.storage_url)
        broken = invariants.check(database, storage, bounds, reads=not quick)
        known = workers.list_workers(database)
    if json:
        _print_json({"broken": [asdict(each) for each in broken]})
    else:
        names = {each.invariant for each in broken}
        _console().print(tables.of_invariants(invariants.INVARIANTS, names))
        _console().print(tables.of_workers(known))
        for each in broken:
            about = f"job {each.job_id}: " if each.job_id else ""
            typer.echo(f"{each.invariant}: {about}{each.detail}")
    if broken:
        raise typer.Exit(1)


@app.command("settings", rich_help_panel=SERVICE)
def show_settings(json: Json = False) -> None:
    """List the settings: their values and what they mean."""
    from services.client import tables
    from services.client.fields import fields
    from shared.settings import PREFIX, Settings

    settings = _settings()
    values = {
        name: tables.without_password(value) if isinstance(value, str) else value
        for name, value in settings.model_dump(mode="json").items()
    }
    if json:
        _print_json({f"{PREFIX}{name.upper()}": value for name, value in values.items()})
    else:
        table = tables.of_settings(fields(Settings), values, settings.model_fields_set)
        _console().print(table)


@app.command(rich_help_panel=REFERENCE)
def spec(json: Json = False) -> None:
    """List the fields of a spec: what they accept and mean."""
    from services.client import tables
    from services.client.fields import fields
    from shared.spec import JobSpec

    if json:
        _print_json(JobSpec.model_json_schema())
    else:
        _console().print(tables.of_fields(fields(JobSpec)))


@app.command(rich_help_panel=REFERENCE)
def version(json: Json = False) -> None:
    """Print the version."""
    from importlib import metadata

    number = metadata.version("impasto")
    if json:
        _print_json({"impasto": number})
    else:
        typer.echo(f"impasto {number}")


def main() -> None:
    app(prog_name="impasto")


def _order(
    content: Path, styles: list[Style], masks: list[Path] | None, fields: dict[str, Any]
) -> "Order":
    from services.client import Order

    return Order.of(content, styles, masks=masks or (), **fields)


def _check_outputs(output: Path | None, report: Path | None) -> None:
    """Raise now what would otherwise be raised after the work."""
    from services.client import files

    if report:
        report.mkdir(parents=True, exist_ok=True)
    files.check_picture(output or Path("impasto.png"))  # its folder, if its name is not known yet


@contextmanager
def _connected(address: str | None, *, or_own: bool = False) -> Iterator["Client"]:
    """The server at the address, or on this machine; or one of our own, where there is none."""
    from services.client import Client

    with ExitStack() as stack:
        if address:
            yield stack.enter_context(Client(address))
            return
        settings = _settings()
        client = stack.enter_context(Client(f"http://127.0.0.1:{settings.port}"))
        if or_own and not client.answers():
            own = stack.enter_context(_own_service(settings))
            client = stack.enter_context(Client(own, stuck_seconds=STUCK_SECONDS))
        yield client


@contextmanager
def _own_service(settings: "Settings") -> Iterator[str]:
    """The address of a service that lives as long as the `with`."""
    from services.embedded import Embedded
    from shared import logs

    changes: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "error"  # the rest would disturb the progress bar
    settings = settings.model_copy(update=changes)
    logs.configure(settings)
    _say(f"no server is running: starting one for this picture, in {settings.home}")
    with Embedded(settings) as service:
        with _console(stderr=True).status("loading the network"):
            service.worker.result()
        yield service.url


def _follow(job: "Job") -> None:
    """Show the job's progress until it has ended, however that may be."""
    from services.client import progress

    with progress.shown(_console(stderr=True)) as show:
        for status in job.watch():
            show(status)


def _keep(job: "Job", output: Path | None, report: Path | None) -> None:
    """Write what the job made. Raises JobFailed, or Cancelled."""
    from services.client import report as reports
    from services.client.tables import size, took
    from shared.keys import SUFFIXES

    status = job.wait()
    if status.result is None:
        raise ResultExpired
    output = output or Path(f"impasto-{job.id}{SUFFIXES[status.result.media_type]}")
    job.save(output)
    if report:
        reports.keep(job, report)
    _say(f"{output}: {size(status)}, rendered in {took(status)}")


def _settings(**given: Any) -> "Settings":
    from shared import settings

    return settings.load(**given)


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _say(line: str) -> None:
    """Tell the person, not the pipe."""
    typer.echo(line, err=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _in_one_line(error: Exception) -> str:
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
