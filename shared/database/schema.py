"""The schema's versions: bring a database up to date, or refuse one that is not."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from ..errors import SchemaOutdated
from .connection import Database

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x1A9A570  # one migration at a time: an advisory lock of Postgres


def upgrade(database: Database, revision: str = "head") -> None:
    """Run the migrations that are missing, in one transaction."""
    config = _config()
    with database.alter() as connection:  # on SQLite this is the lock
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def version(database: Database) -> str | None:
    """The revision that the database is at; None before the first."""
    with database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def check(database: Database) -> None:
    """Raise SchemaOutdated unless the database is at this code's revision."""
    found, needed = version(database), ScriptDirectory.from_config(_config()).get_current_head()
    if found != needed:
        raise SchemaOutdated(
            f"the database's schema is at {found or 'nothing'}, this version needs {needed};"
            " run `impasto migrate`"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
