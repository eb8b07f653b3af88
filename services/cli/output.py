"""What a command shows of a job, and how it writes what the job made."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from impasto.shared.errors import ImpastoError, InvalidRequest, ResultExpired

from .app import console, say

if TYPE_CHECKING:
    from ..client import Job, JobDocument

STANDARD_OUTPUT = Path("-")


class NotWritten(ImpastoError):
    """The result could not be written."""

    code = "not_written"


def check_outputs(
    output: Path | None, report: Path | None, *, inputs: Collection[Path] = (), json: bool = False
) -> None:
    """Raise InvalidRequest now for what would otherwise be found after the work."""
    from ..client import files

    if output == STANDARD_OUTPUT:
        if json:
            raise InvalidRequest(
                "--output -: accepted with --json: a file, for JSON is written there"
            )
        if sys.stdout.isatty():
            raise InvalidRequest("--output -: accepted: a pipe or a file, not a terminal")
        output = None
    elif output and any(output.resolve() == path.resolve() for path in inputs):
        raise InvalidRequest(f"{output}: accepted: another name than an input's, which it replaces")
    try:
        if report:
            report.mkdir(parents=True, exist_ok=True)
            files.check_writable(report / "manifest.json")
        if output:
            files.check_picture(output)
        else:
            files.check_writable(Path("impasto.png"))  # its folder; its name is not known yet
    except OSError as error:
        raise InvalidRequest(f"{error.filename}: {error.strerror}") from error


def follow(job: "Job") -> None:
    """Show the job's progress until it has ended, however that may be."""
    from ..client import progress

    with progress.shown(console(stderr=True)) as show:
        for status in job.watch():
            show(status)


def keep(job: "Job", output: Path | None, report: Path | None, *, json: bool = False) -> None:
    """Write what the job made; with json its status, too, and the path as `output`.

    Raises JobFailed, Cancelled, ResultExpired, or NotWritten, which says how to fetch it.
    """
    from impasto.shared.object_keys import SUFFIXES

    from ..client.tables import size, took

    status = job.wait()
    if status.result is None:
        raise ResultExpired
    output = output or Path(f"impasto-{job.id}{SUFFIXES[status.result.media_type]}")
    try:
        _write(job, output, report)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # Pillow's, of a format that cannot hold the picture
        why = getattr(error, "strerror", None) or error
        where = getattr(error, "filename", None) or output
        raise NotWritten(
            f"{where}: {why}; the picture is kept: impasto download {job.id} -o FILE"
        ) from error
    if json:
        print_status(status, output=str(output))
    say(f"{output}: {size(status)}, rendered in {took(status)}")


def print_status(status: "JobDocument", **more: str) -> None:
    """A status as JSON."""
    typer.echo(status.model_copy(update=more).model_dump_json(indent=2))


def _write(job: "Job", output: Path, report: Path | None) -> None:
    from ..client import report as reports

    if output == STANDARD_OUTPUT:
        sys.stdout.buffer.write(job.result())
        sys.stdout.buffer.flush()
    else:
        job.save(output)
    if report:
        reports.keep(job, report)
