"""Database, broker and store at addresses of IPv6."""

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from impasto.shared import settings
from impasto.shared.database import open_database, schema
from impasto.shared.storage import open_storage
from impasto.shared.wakeups import open_wakeups
from tests.servers.proxy import Proxy
from tests.servers.server import LOCALHOST_6, has_ipv6

if TYPE_CHECKING:
    from tests.servers.postgres import PostgresAt
    from tests.servers.swift import S3At
    from tests.servers.valkey import ValkeyAt

pytestmark = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 at all")


def test_postgres_is_reached_by_ipv6(postgres: "PostgresAt") -> None:
    url = postgres.database()
    with Proxy.of(url, at=LOCALHOST_6) as proxy:
        given = settings.load(database_url=proxy.url(url)).database_url
        assert f"@[{LOCALHOST_6}]:" in given
        with closing(open_database(given)) as database:
            schema.upgrade(database)
            schema.check(database)
    postgres.drop(url)


def test_a_broker_is_reached_by_ipv6(valkey: "ValkeyAt") -> None:
    url = valkey.fresh()
    with Proxy.of(url, at=LOCALHOST_6) as proxy:
        wakeups = open_wakeups(settings.load(broker_url=proxy.url(url)).broker_url)

        assert wakeups.check() is None
        assert wakeups.notify()


def test_a_store_is_reached_by_ipv6(swift: "S3At", monkeypatch: pytest.MonkeyPatch) -> None:
    environment = swift.environment()
    endpoint = environment["AWS_ENDPOINT_URL_S3"]
    with Proxy.of(endpoint, at=LOCALHOST_6) as proxy:
        for name, value in {**environment, "AWS_ENDPOINT_URL_S3": proxy.url(endpoint)}.items():
            monkeypatch.setenv(name, value)
        url = swift.bucket()
        storage = open_storage(url)
        storage.check()
        storage.put("a", b"bytes", "image/png")

        assert storage.get("a") == b"bytes"
    swift.drop(url)
