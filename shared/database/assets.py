"""The pictures that were uploaded, addressed by the SHA-256 of their bytes.

Bytes are kept once, whoever uploads them; an owner sees the assets that he uploaded himself.

An upload writes its intent first, then the object, then that it is stored: so no object ever lies
in the storage that no row knows of. Readers see what is stored, and nothing else.
"""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from sqlalchemy import Connection, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from ..errors import AssetNotFound, Unavailable
from .clock import now
from .connection import Database
from .tables import DEFAULT_OWNER, asset_grants, assets


@dataclass(frozen=True)
class Asset:
    """A picture whose bytes lie in the storage under `object_keys.asset(id)`."""

    id: str
    media_type: str
    width: int  # as it is shown, its EXIF orientation applied
    height: int
    size_bytes: int
    warnings: list[str]  # what its file says of its colours and was not honoured
    created_at: datetime.datetime


_FIELDS = [assets.c[field.name] for field in fields(Asset)]
_IS_THERE = assets.c.stored_at.is_not(None) & assets.c.tombstoned_at.is_(None)
_IS_UNDERWAY = assets.c.stored_at.is_(None) & assets.c.tombstoned_at.is_(None)


# What an upload does.


def begin_upload(
    database: Database,
    *,
    id: str,
    media_type: str,
    width: int,
    height: int,
    size_bytes: int,
    warnings: Sequence[str] = (),
) -> None:
    """Tell that the picture's bytes are about to be stored.

    Two may store the same bytes at once. Raises Unavailable while the reconciler deletes what an
    upload that was never finished has left: it would delete the new bytes, too.
    """
    new = insert(assets).values(
        id=id,
        media_type=media_type,
        width=width,
        height=height,
        size_bytes=size_bytes,
        warnings=list(warnings),
        created_at=now(),
    )
    try:
        with database.write() as connection:
            connection.execute(new)
    except IntegrityError:
        _intend_again(database, id)


def finish_upload(database: Database, asset_id: str, *, owner_id: str = DEFAULT_OWNER) -> Asset:
    """The asset, whose bytes lie in the storage, known to this owner from now on.

    Raises Unavailable if the upload took so long that its intent was given up.
    """
    with database.write() as connection:
        is_it = (assets.c.id == asset_id) & _IS_UNDERWAY
        connection.execute(update(assets).where(is_it).values(stored_at=now()))
        query = select(*_FIELDS).where(assets.c.id == asset_id, _IS_THERE)
        # Locked: another upload of the same bytes may be about to tell the same.
        if found := connection.execute(query.with_for_update()).one_or_none():
            _grant(connection, asset_id, owner_id)
            return Asset(*found)
    raise Unavailable(f"the upload of {asset_id} took too long")


# What readers do.


def get(database: Database, asset_id: str, *, owner_id: str = DEFAULT_OWNER) -> Asset:
    """Raises AssetNotFound, whether there is none or it is of another owner."""
    return get_all(database, [asset_id], owner_id=owner_id)[asset_id]


def get_all(
    database: Database, ids: Iterable[str], *, owner_id: str = DEFAULT_OWNER
) -> dict[str, Asset]:
    """The assets by id. Raises AssetNotFound that names the first one missing."""
    wanted = list(ids)
    found = find(database, wanted, owner_id=owner_id)
    for asset_id in wanted:
        if asset_id not in found:
            raise AssetNotFound(f"no picture with the id {asset_id} has been uploaded")
    return found


def find(
    database: Database, ids: Iterable[str], *, owner_id: str = DEFAULT_OWNER
) -> dict[str, Asset]:
    """Those of the assets that this owner has, by id."""
    query = (
        select(*_FIELDS)
        .join(asset_grants, asset_grants.c.asset_id == assets.c.id)
        .where(asset_grants.c.owner_id == owner_id, assets.c.id.in_(list(ids)), _IS_THERE)
    )
    with database.read() as connection:
        return {row.id: Asset(*row) for row in connection.execute(query)}


# What the reconciler does.


def tombstone(database: Database, *, older_than_seconds: float, limit: int) -> list[str]:
    """The ids of uploads that nobody will finish; from now on nobody may.

    Those with a tombstone whose object is not deleted yet are among them.
    """
    is_given_up = assets.c.stored_at.is_(None) & (assets.c.created_at < now(-older_than_seconds))
    oldest = select(assets.c.id).where(is_given_up).order_by(assets.c.created_at).limit(limit)
    with database.write() as connection:
        rows = connection.execute(
            update(assets)
            .where(assets.c.id.in_(oldest), is_given_up)
            .values(tombstoned_at=func.coalesce(assets.c.tombstoned_at, now()))
            .returning(assets.c.id)
        )
        return list(rows.scalars())


def forget(database: Database, asset_id: str) -> None:
    """Delete the row of a tombstoned asset, whose object is deleted."""
    with database.write() as connection:
        is_it = (assets.c.id == asset_id) & assets.c.tombstoned_at.is_not(None)
        connection.execute(delete(assets).where(is_it))


def _grant(connection: Connection, asset_id: str, owner_id: str) -> None:
    """Let an owner see and use an asset; its row is locked."""
    is_it = (asset_grants.c.owner_id == owner_id) & (asset_grants.c.asset_id == asset_id)
    if connection.execute(select(asset_grants.c.asset_id).where(is_it)).one_or_none() is None:
        new = {"owner_id": owner_id, "asset_id": asset_id, "created_at": now()}
        connection.execute(insert(asset_grants).values(**new))


def _intend_again(database: Database, asset_id: str) -> None:
    """Begin the patience with an unfinished upload anew; what is stored stays as it is."""
    with database.write() as connection:
        is_it = (assets.c.id == asset_id) & _IS_UNDERWAY
        connection.execute(update(assets).where(is_it).values(created_at=now()))
        query = select(assets.c.id).where(assets.c.id == asset_id, assets.c.tombstoned_at.is_(None))
        if connection.execute(query).one_or_none() is None:
            raise Unavailable(f"what an earlier upload of {asset_id} has left is being deleted")
