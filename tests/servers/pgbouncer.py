"""PgBouncer in transaction mode, from the system's package `pgbouncer`, in front of a Postgres."""

import os
import pwd
import shutil
import signal
from urllib.parse import urlsplit

import psycopg

from .server import LOCALHOST, Server, UnavailableError

# One connection to Postgres for all clients: whatever one leaves in its session, the next one gets.
CONFIGURATION = """
[databases]
* = host={host} port={behind}
[pgbouncer]
listen_addr = {localhost}
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool_size}
"""


class PgBouncer(Server):
    """A PgBouncer of our own; it refuses to be root, and runs as nobody there."""

    stop_signal = signal.SIGTERM

    def __init__(self, postgres_url: str, *, pool_size: int = 1) -> None:
        found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            raise UnavailableError("the system's package pgbouncer is not installed")
        super().__init__()
        self._binary = found
        self._behind = urlsplit(postgres_url)
        self._pool_size = pool_size
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.identity = nobody.pw_uid, nobody.pw_gid

    def url(self, url: str) -> str:
        """The URL of a database of the Postgres, by way of this pooler."""
        behind = f"{self._behind.hostname}:{self._behind.port}"
        return url.replace(behind, f"{LOCALHOST}:{self.port}")

    def prepare(self) -> None:
        users = self.folder / "users"
        users.write_text(f'"{self._behind.username}" "{self._behind.password}"\n')
        (self.folder / "pgbouncer.ini").write_text(
            CONFIGURATION.format(
                host=self._behind.hostname,
                behind=self._behind.port,
                localhost=LOCALHOST,
                port=self.port,
                users=users,
                pool_size=self._pool_size,
            )
        )
        if self.identity is not None:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, *self.identity)

    def command(self) -> list[str]:
        return [self._binary, str(self.folder / "pgbouncer.ini")]

    def answers(self) -> bool:
        url = self._behind._replace(scheme="postgresql").geturl()
        try:
            psycopg.connect(self.url(url), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
