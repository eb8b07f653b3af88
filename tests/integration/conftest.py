"""The API over both stacks' servers, called in this process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from impasto.services import audit
from impasto.shared.database import Database
from impasto.shared.settings import Settings
from impasto.shared.storage import Storage, open_storage
from tests.arrange.api import Api, open_api
from tests.arrange.stores import clear, database_at


@pytest.fixture(scope="module", params=["embedded", "cluster"])
def stack_settings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The settings of either stack; one database and one storage for the tests of a module."""
    home = tmp_path_factory.mktemp("home")
    if request.param == "embedded":
        yield Settings(home=home)
        return
    postgres, valkey, swift = map(request.getfixturevalue, ("postgres", "valkey", "swift"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in swift.environment().items():
            patch.setenv(name, value)
        settings = Settings(
            home=home,
            database_url=postgres.database(),
            broker_url=valkey.fresh(),
            storage_url=swift.bucket(),
        )
        yield settings
        postgres.drop(settings.database_url)
        swift.drop(settings.storage_url)


@pytest.fixture(scope="module")
def api(stack_settings: Settings) -> Iterator[Api]:
    """A server that is ready to serve."""
    with ExitStack() as stack:
        yield open_api(stack, stack_settings).prepare()


@pytest.fixture(scope="module")
def stack_database(stack_settings: Settings) -> Iterator[Database]:
    with database_at(stack_settings.database_url) as database:
        yield database


@pytest.fixture
def database(stack_database: Database) -> Database:
    """Either stack's, with nothing in it."""
    clear(stack_database)
    return stack_database


@pytest.fixture
def storage(stack_settings: Settings) -> Storage:
    """Either stack's, with nothing in it."""
    storage = open_storage(stack_settings.storage_url)
    storage.prepare()
    for key in storage.keys(""):
        storage.delete(key)
    return storage


@pytest.fixture
def another_api(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """`another_api(**settings)`: one of the test's own, on an embedded stack, nothing prepared."""
    with ExitStack() as stack:
        home = tmp_path / "home"
        yield lambda **settings: open_api(stack, Settings(**{"home": home, **settings}))


@pytest.fixture(autouse=True)
def nothing_is_broken(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test on an API or on a worker, every invariant holds."""
    if "api" in request.fixturenames:
        at = request.getfixturevalue("api").connections
    elif "context" in request.fixturenames:
        at = request.getfixturevalue("context")
    else:
        yield
        return
    yield
    # Some tests spoil the pictures that a job is made of, to see what becomes of it.
    assert [each for each in audit.check(at.database, at.storage) if each.job_id] == []


@pytest.fixture
def client(api: Api) -> FlaskClient:
    return api.client
