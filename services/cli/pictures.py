"""`render`, `submit`, `download`."""

import secrets
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer

from .app import INTERRUPTED, PICTURES, app, console, say
from .local_service import connected, with_renderer
from .options import (
    Content,
    JobId,
    Json,
    Masks,
    Output,
    Report,
    Server,
    SpecFile,
    Style,
    Styles,
    TakesSpec,
)
from .output import STANDARD_OUTPUT, check_outputs, follow, keep, print_status

if TYPE_CHECKING:
    from ..client import Client, Order

_PICTURES_OF_A_SPEC = ("content", "styles", "init_asset")


@app.command(cls=TakesSpec, rich_help_panel=PICTURES)
def render(
    content: Content,
    styles: Styles,
    *,
    output: Output = None,
    report: Report = None,
    masks: Masks = None,
    spec: SpecFile = None,
    server: Server = None,
    json: Json = False,
    **fields: Any,
) -> None:
    """Render a picture, watch it, and keep it.

    Where no server is running, one is started for this picture. Ctrl-C and SIGTERM cancel the job.

    Exit status: 0 with a picture, 2 where arguments or pictures are refused, else 1.
    """
    inputs = [content, *(style.path for style in styles), *(masks or ())]
    check_outputs(output, report, inputs=inputs, json=json)
    if output and output != STANDARD_OUTPUT:
        from ..client.files import format_of

        fields.setdefault("format", format_of(output))
    order = _order(content, styles, masks, spec, fields)
    say(described(content, styles, masks or ()))
    key = secrets.token_hex(16)  # one for all tries: they submit one job

    def act(client: "Client") -> None:
        job = client.place(order, idempotency_key=key)
        try:
            follow(job)
        except KeyboardInterrupt:
            job.cancel()
            say(f"job {job.id} is cancelled")
            raise
        if json and not job.status().result:
            print_status(job.status())
        keep(job, output, report, json=json)

    with _stop_signals():
        with_renderer(server, act)


@app.command(cls=TakesSpec, rich_help_panel=PICTURES)
def submit(
    content: Content,
    styles: Styles,
    *,
    masks: Masks = None,
    spec: SpecFile = None,
    server: Server = None,
    json: Json = False,
    **fields: Any,
) -> None:
    """Submit a picture, print the job's id and leave."""
    from ..client import progress

    order = _order(content, styles, masks, spec, fields)
    say(described(content, styles, masks or ()))
    with connected(server) as client:
        job = client.place(order)
        progress.warn(console(stderr=True), job.status())
        if json:
            print_status(job.status())
        else:
            typer.echo(job.id)


@app.command(rich_help_panel=PICTURES)
def download(
    job: JobId,
    output: Output = None,
    report: Report = None,
    server: Server = None,
    json: Json = False,
) -> None:
    """Keep what a job rendered, once it is there."""
    check_outputs(output, report, json=json)
    with connected(server, starts_own=True) as client:
        keep(client.job(job), output, report, json=json)


def _order(
    content: Path,
    styles: list[Style],
    masks: list[Path] | None,
    spec: Path | None,
    fields: dict[str, Any],
) -> "Order":
    from impasto.shared.spec import overridden

    from ..client import Order

    if spec:
        fields = overridden(_read_spec(spec), fields)
    return Order.of(content, styles, masks=masks or (), **fields)


def _read_spec(path: Path) -> Mapping[str, Any]:
    """The parameters in a file: a spec, or the spec of a manifest or a status."""
    from pydantic_core import from_json

    try:
        text = typer.get_text_stream("stdin").read() if path == Path("-") else path.read_text()
        found = from_json(text)
    except ValueError as error:
        raise typer.BadParameter(f"--spec {path}: this is no JSON: {error}") from error
    found = found.get("spec", found) if isinstance(found, dict) else found
    if not isinstance(found, dict):
        raise typer.BadParameter(f"--spec {path}: accepted: a JSON object with a spec's fields")
    return {name: value for name, value in found.items() if name not in _PICTURES_OF_A_SPEC}


def described(content: Path, styles: Sequence[Style], masks: Sequence[Path]) -> str:
    """`photo.jpg in the style of monet.jpg (67 %) and hokusai.jpg (33 %)`"""
    total = sum(style.share for style in styles)
    paintings = []
    for index, style in enumerate(styles):
        words = (
            [f"{style.share / total:.0%}".replace("%", " %")] if len(styles) > 1 and total else []
        )
        words += [f"where {masks[index]} is white"] if index < len(masks) else []
        paintings.append(f"{style.path} ({', '.join(words)})" if words else f"{style.path}")
    *several, last = paintings
    named = f"{', '.join(several)} and {last}" if several else last
    return f"{content} in the style of {named}"


@contextmanager
def _stop_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end a command as Ctrl-C does.

    Raises typer.Exit with the status that shells know for the signal.
    """
    received = signal.SIGINT

    def interrupt(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {
        number: signal.signal(number, interrupt)
        for number in numbers
        if signal.getsignal(number) == signal.SIG_DFL  # `nohup` ignores SIGHUP
    }
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED - signal.SIGINT + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
