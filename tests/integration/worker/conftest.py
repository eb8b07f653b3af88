"""A worker's belongings in this process, over both stacks."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from impasto.shared.database import Database
from impasto.shared.database.jobs import Job
from impasto.shared.pictures.pool import Decoders
from impasto.shared.storage import Storage
from impasto.workers import weights
from impasto.workers.attempt import WorkerContext
from impasto.workers.engine.loop import Loop
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.lease import LeaseTimings
from tests.arrange import orders


@pytest.fixture(scope="module")
def vgg() -> Vgg:
    return Vgg(weights.load("caffe", Path("unused"), fetch=lambda _: b""))


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
    return partial(orders.order, database, storage, decoders)
