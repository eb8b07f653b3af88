"""Jobs that are submitted with their pictures, as the API does it."""

from typing import Any

from impasto.services import submission
from impasto.services.submission import Order
from impasto.services.uploads import Inspections, Upload
from impasto.shared.database import Database
from impasto.shared.database.jobs import Job
from impasto.shared.pictures.pool import Decoders
from impasto.shared.storage import Storage
from impasto.shared.wakeups import open_wakeups
from tests.arrange.pictures import paint

SIZE = (64, 48)
CONTENT, STYLE = (Upload(paint(seed, size=SIZE)) for seed in (1, 2))


def order(
    database: Database,
    storage: Storage,
    decoders: Decoders,
    *,
    content: Upload = CONTENT,
    broker_url: str = "memory://",
    **fields: Any,
) -> Job:
    """A new job of two small pictures, which is quickly rendered unless its fields say more."""
    small = {"size": 64, "iterations": 4, "snapshot_every": 2, "precision": "float32"}
    asked = Order({**small, **fields}, content=content, styles=[STYLE])
    wakeups, inspections = open_wakeups(broker_url), Inspections(decoders, max_pixels=10**6)
    return submission.submit(database, storage, wakeups, asked, inspections=inspections)[0]
