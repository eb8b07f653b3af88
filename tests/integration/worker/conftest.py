"""A worker's belongings in this process, over both stacks."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete

from impasto.services import submission
from impasto.services.submission import Order
from impasto.services.uploads import Inspections, Upload
from impasto.shared.database import Database, open_database, schema
from impasto.shared.database.jobs import Job
from impasto.shared.database.tables import metadata
from impasto.shared.pictures.pool import Decoders
from impasto.shared.settings import Settings
from impasto.shared.storage import Storage, open_storage
from impasto.shared.wakeups import WakeUps
from impasto.workers import weights
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.loop import Loop
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.lease import LeaseTimings
from tests.arrange.attempts import CONTENT, SMALL, STYLE


@pytest.fixture(scope="module")
def vgg() -> Vgg:
    return Vgg(weights.load("caffe", Path("unused"), fetch=lambda _: b""))


@pytest.fixture
def database(stack_settings: Settings) -> Iterator[Database]:
    with closing(open_database(stack_settings.database_url)) as database:
        schema.upgrade(database)
        with database.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        yield database


@pytest.fixture
def storage(stack_settings: Settings) -> Storage:
    storage = open_storage(stack_settings.storage_url)
    storage.prepare()
    return storage


@pytest.fixture
def context(
    database: Database, storage: Storage, vgg: Vgg, decoders: Decoders
) -> Iterator[WorkerContext]:
    with Loop() as loop:
        terms = LeaseTimings(progress_seconds=0.05)
        # However slow the machine is: no checkpoint unless a test asks for one.
        yield WorkerContext(
            database,
            storage,
            loop,
            vgg,
            terms,
            checkpoint_seconds=math.inf,
            decoders=decoders,
        )


@pytest.fixture
def order(database: Database, storage: Storage, decoders: Decoders) -> Callable[..., Job]:
    """Submits a job of two small pictures, with these fields of the spec."""

    def submit(content: Upload = CONTENT, **fields: Any) -> Job:
        asked = Order({**SMALL, **fields}, content=content, styles=[STYLE])
        inspections = Inspections(decoders, max_pixels=10**6)
        return submission.submit(database, storage, WakeUps(), asked, inspections=inspections)[0]

    return submit
