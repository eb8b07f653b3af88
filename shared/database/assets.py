"""The pictures that were uploaded, addressed by the SHA-256 of their bytes."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from shared.database.clock import now
from shared.database.connection import Database
from shared.database.tables import assets
from shared.errors import AssetNotFound


@dataclass(frozen=True)
class Asset:
    """A picture whose bytes lie in the storage under `keys.asset(id)`."""

    id: str
    media_type: str
    width: int  # as it is shown, its EXIF orientation applied
    height: int
    size_bytes: int
    created_at: datetime.datetime


def add(
    database: Database, *, id: str, media_type: str, width: int, height: int, size_bytes: int
) -> Asset:
    """The asset, known from now on; one that was known stays as it was."""
    row = insert(assets).values(
        id=id,
        media_type=media_type,
        width=width,
        height=height,
        size_bytes=size_bytes,
        created_at=now(),
    )
    try:
        with database.write() as connection:
            return Asset(*connection.execute(row.returning(*assets.c)).one())
    except IntegrityError:
        return get(database, id)


def get(database: Database, asset_id: str) -> Asset:
    """Raises AssetNotFound."""
    return get_all(database, [asset_id])[asset_id]


def get_all(database: Database, ids: Iterable[str]) -> dict[str, Asset]:
    """The assets by id. Raises AssetNotFound that names the first one missing."""
    wanted = list(ids)
    found = find(database, wanted)
    for asset_id in wanted:
        if asset_id not in found:
            raise AssetNotFound(f"no picture with the id {asset_id} has been uploaded")
    return found


def find(database: Database, ids: Iterable[str]) -> dict[str, Asset]:
    """Those of the assets that there are, by id."""
    with database.read() as connection:
        rows = connection.execute(select(assets).where(assets.c.id.in_(list(ids))))
        return {row.id: Asset(*row) for row in rows}
