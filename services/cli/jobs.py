"""`watch`, `status`, `jobs`, `cancel`."""

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from impasto.shared.states import State

from .app import JOBS, app, console, print_json, say
from .local_service import connected
from .options import JobId, Json, Server
from .output import follow, print_status


@app.command(rich_help_panel=JOBS)
def watch(job: JobId, server: Server = None, json: Json = False) -> None:
    """Show how a job goes, until it has ended. Ctrl-C only stops watching."""
    with connected(server) as client:
        if json:
            for status in client.job(job).watch():
                typer.echo(status.model_dump_json())
        else:
            follow(client.job(job))
        client.job(job).wait()


@app.command(rich_help_panel=JOBS)
def status(job: JobId, server: Server = None, json: Json = False) -> None:
    """Show how a job stands."""
    from ..client import tables

    with connected(server, starts_own=True) as client:
        document = client.job(job).status()
    if json:
        print_status(document)
    else:
        console().print(tables.of_job(document, datetime.now(UTC)))


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
    from ..client import tables
    from ..client.options import pair

    labels = dict(map(pair, label or []))
    with connected(server, starts_own=True) as client:
        found = list(islice(client.jobs(status=status or [], labels=labels), limit))
    if json:
        print_json([job.model_dump(mode="json") for job in found])
    elif found:
        console().print(tables.of_jobs(found, datetime.now(UTC)))
    else:
        say("there are no such jobs" if status or label else "there are no jobs yet")


@app.command(rich_help_panel=JOBS)
def cancel(job: JobId, server: Server = None, json: Json = False) -> None:
    """Cancel a job; one that has ended stays as it is."""
    from ..client.progress import activity

    with connected(server, starts_own=True) as client:
        client.job(job).cancel()
        document = client.job(job).status()
    if json:
        print_status(document)
    else:
        say(f"job {job}: {activity(document)}")
