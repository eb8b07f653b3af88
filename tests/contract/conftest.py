"""What the contract suites open, of either stack."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import settings

from impasto.shared.database import Database, open_database
from tests.arrange.stores import clear

settings.register_profile("deep")  # what `make test-deep` asks for


@pytest.fixture
def database(kept_database: Database) -> Database:
    """A database with the present schema, and nothing in it."""
    clear(kept_database)
    return kept_database


@pytest.fixture
def bare_database(database_url: str) -> Iterator[Database]:
    """A database without a table."""
    with closing(open_database(database_url)) as database:
        yield database
