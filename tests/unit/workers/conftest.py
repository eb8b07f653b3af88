"""What the tests of a worker's parts open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from impasto.shared.database import Database
from tests.arrange.stores import database_at


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """An empty one of SQLite."""
    with database_at(f"sqlite:///{tmp_path / 'impasto.db'}") as database:
        yield database
