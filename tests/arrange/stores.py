"""Databases and storages: made ready, emptied, grown old, and failing at a chosen moment."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy import Connection, Table, delete, select, text, update

from impasto.shared.database import Database, assets, open_database, schema, tables
from impasto.shared.database.clock import Instant
from impasto.shared.errors import Unavailable
from impasto.shared.settings import Settings
from impasto.shared.storage import Storage, open_storage
from tests.arrange.paths import ROOT


@contextmanager
def database_at(url: str) -> Iterator[Database]:
    """The database of a URL, with the present schema."""
    with closing(open_database(url)) as database:
        schema.upgrade(database)
        yield database


def prepare(settings: Settings) -> None:
    """Make database and storage ready for a service."""
    with database_at(settings.database_url):
        pass
    open_storage(settings.storage_url).prepare()


def clear(database: Database) -> None:
    with database.write() as connection:
        for table in reversed(tables.metadata.sorted_tables):
            connection.execute(delete(table))


def begin_upload(database: Database, asset_id: str, width: int = 640, size_bytes: int = 9) -> None:
    assets.begin_upload(
        database,
        id=asset_id,
        media_type="image/png",
        width=width,
        height=480,
        size_bytes=size_bytes,
    )


def age(database: Database, *, days: float) -> None:
    """Let time go by for all that there is."""
    with database.write() as connection, without_triggers(connection):
        for table in tables.metadata.sorted_tables:
            for row in connection.execute(select(table)).mappings().all():
                is_it = [column == row[column.name] for column in table.primary_key]
                earlier = {
                    name: row[name] - timedelta(days=days) for name in _instants(table) if row[name]
                }
                if earlier:
                    connection.execute(update(table).where(*is_it).values(earlier))


@contextmanager
def without_triggers(connection: Connection) -> Iterator[None]:
    """Where the database would refuse what a test has to do to it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE jobs DISABLE TRIGGER USER"))
        yield
        connection.execute(text("ALTER TABLE jobs ENABLE TRIGGER USER"))
        return
    names = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    triggers = connection.execute(names).all()
    for trigger in triggers:
        connection.execute(text(f"DROP TRIGGER {trigger.name}"))
    yield
    for trigger in triggers:
        connection.exec_driver_sql(trigger.sql)


def _instants(table: Table) -> list[str]:
    return [column.name for column in table.c if isinstance(column.type, Instant)]


class Watched(Database):
    """A database that calls behind each commit; what the called raises, the write raises."""

    def __init__(self, database: Database, behind_commit: Callable[[], object]) -> None:
        super().__init__(database.engine)
        self._behind_commit = behind_commit

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
        self._behind_commit()


class Forgetful(Watched):
    """Commits, and loses the answer of the first commit by which something is so."""

    def __init__(self, database: Database, is_so: Callable[[Database], object]) -> None:
        super().__init__(database, self._forget)
        self._is_so = is_so
        self.lost = 0

    def _forget(self) -> None:
        if not self.lost and self._is_so(self):
            self.lost += 1
            raise Unavailable("the commit was made, and its answer lost")


class Store:
    """A storage that asks before each put; what the asked raises, the put raises."""

    def __init__(self, storage: Storage, before_put: Callable[[str], object]) -> None:
        self._storage = storage
        self._before_put = before_put

    def get(self, key: str) -> bytes:
        return self._storage.get(key)

    def put(self, key: str, data: bytes, media_type: str) -> None:
        self._before_put(key)
        self._storage.put(key, data, media_type)


def fill(disk: Path) -> Path:
    """The file that takes what room there was."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


# Its last moment is before the bytes are on the disk, or on their way to S3.
_PUT = """
import os, signal, sys
from botocore import httpsession
from impasto.shared.storage import open_storage

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = httpsession.URLLib3Session.send = die
open_storage(sys.argv[1]).put(sys.argv[2], b"half", "image/png")
"""


def killed_put(storage_url: str, key: str) -> None:
    """Put an object in a process that is killed meanwhile."""
    command = [sys.executable, "-c", _PUT, storage_url, key]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL


def parts(storage_url: str) -> list[Path]:
    """The files of a folder storage that never got their names; a bucket has none."""
    where = urlsplit(storage_url)
    return list(Path(where.path).rglob("*.part")) if where.scheme == "file" else []
