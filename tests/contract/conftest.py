"""What the contract suites open, of either stack."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings
from sqlalchemy import delete

from impasto.shared.database import Database, open_database, schema
from impasto.shared.database.tables import metadata

settings.register_profile("deep")  # what `make test-deep` asks for


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def kept_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """One of either kind, for all tests: Postgres takes longer to make one than most tests do."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("database")
        with closing(open_database(f"sqlite:///{folder / 'impasto.db'}")) as database:
            schema.upgrade(database)
            yield database
        return
    server = request.getfixturevalue("postgres")
    url = server.database()
    with closing(open_database(url)) as database:
        schema.upgrade(database)
        yield database
    server.drop(url)


@pytest.fixture
def database(kept_database: Database) -> Database:
    """A database with the present schema, and nothing in it."""
    with kept_database.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    return kept_database


@pytest.fixture
def bare_database(database_url: str) -> Iterator[Database]:
    """A database without a table."""
    with closing(open_database(database_url)) as database:
        yield database
