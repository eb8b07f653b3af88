"""`up`, `migrate`, `doctor`, `settings`."""

from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any

import typer

from .app import SERVICE, app, console, print_json, say, settings_of_environment
from .options import Json, TakesSettings


@app.command(cls=TakesSettings, rich_help_panel=SERVICE)
def up(**given: Any) -> None:
    """Serve on this machine, until Ctrl-C.

    API, worker and reconciler are one process; what they know lies in one folder.
    """
    settings = settings_of_environment(**given)
    from .. import embedded

    def announce(url: str) -> None:
        say(f"Impasto serves on {url}, from {settings.home}; Ctrl-C stops it")

    embedded.main(settings, announce)


@app.command(rich_help_panel=SERVICE)
def migrate() -> None:
    """Bring the database up to date, and make the storage."""
    settings = settings_of_environment()
    from impasto.shared.database import open_database, schema
    from impasto.shared.storage import open_storage

    with closing(open_database(settings.database_url)) as database:
        schema.upgrade(database)
        version = schema.version(database)
    open_storage(settings.storage_url).prepare()
    say(f"the database is at {version}, the storage is ready")


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
    from impasto.shared.database import open_database, schema, workers
    from impasto.shared.storage import open_storage

    from .. import audit
    from ..client import tables

    settings = settings_of_environment()
    bounds = audit.Bounds(settings.lease_seconds, settings.reconcile_seconds)
    with closing(open_database(settings.database_url)) as database:
        schema.check(database)
        storage = open_storage(settings.storage_url)
        broken = audit.check(database, storage, bounds, reads=not quick)
        known = workers.list_workers(database)
    if json:
        print_json({"broken": [asdict(each) for each in broken]})
    else:
        names = {each.invariant for each in broken}
        console().print(tables.of_invariants(audit.INVARIANTS, names))
        console().print(tables.of_workers(known))
        for each in broken:
            about = f"job {each.job_id}: " if each.job_id else ""
            typer.echo(f"{each.invariant}: {about}{each.detail}")
    if broken:
        raise typer.Exit(1)


@app.command("settings", rich_help_panel=SERVICE)
def show_settings(json: Json = False) -> None:
    """List the settings: their values and what they mean."""
    from impasto.shared import urls
    from impasto.shared.settings import PREFIX, Settings

    from ..client import tables
    from ..client.fields import fields

    settings = settings_of_environment()
    values = {
        name: urls.without_password(value) if isinstance(value, str) else value
        for name, value in settings.model_dump(mode="json").items()
    }
    if json:
        print_json({f"{PREFIX}{name.upper()}": value for name, value in values.items()})
    else:
        table = tables.of_settings(fields(Settings), values, settings.model_fields_set)
        console().print(table)
