"""The pictures that were uploaded, on both databases."""

import itertools

import pytest
from sqlalchemy import select, update

from impasto.shared.database import Database, assets, tables
from impasto.shared.database.clock import now
from impasto.shared.errors import AssetNotFound, Unavailable
from tests.arrange.stores import begin_upload
from tests.arrange.timing import at_once

DAY = 86400
ONE, OTHER, MISSING = "1" * 64, "2" * 64, "3" * 64


def test_an_asset_is_known_by_its_id_once_its_bytes_are_stored(database: Database) -> None:
    begin_upload(database, ONE, size_bytes=2**33)
    assert assets.find(database, [ONE]) == {}

    stored = assets.finish_upload(database, ONE)

    assert assets.get(database, ONE) == stored
    assert (stored.id, stored.media_type) == (ONE, "image/png")
    assert (stored.width, stored.height, stored.size_bytes) == (640, 480, 2**33)


def test_an_asset_that_was_known_stays_as_it_was(database: Database) -> None:
    first = add(database, ONE, width=640)

    assert add(database, ONE, width=320) == first
    assert assets.get(database, ONE) == first


def test_two_may_upload_the_same_picture_at_once(database: Database) -> None:
    begin_upload(database, ONE)
    begin_upload(database, ONE)

    assert assets.finish_upload(database, ONE) == assets.finish_upload(database, ONE)


def test_assets_are_found_together_each_once(database: Database) -> None:
    one, other = add(database, ONE), add(database, OTHER)

    assert assets.get_all(database, [OTHER, ONE, OTHER]) == {ONE: one, OTHER: other}
    assert assets.find(database, [ONE, MISSING]) == {ONE: one}
    assert assets.get_all(database, []) == {}


def test_the_asset_that_is_missing_is_named(database: Database) -> None:
    add(database, ONE)

    with pytest.raises(AssetNotFound, match=f"no picture with the id {MISSING} has been uploaded"):
        assets.get_all(database, [ONE, MISSING])
    with pytest.raises(AssetNotFound, match=MISSING):
        assets.get(database, MISSING)


# Owners.


def test_an_owner_sees_what_he_uploaded_himself(database: Database) -> None:
    mine = add(database, ONE)
    assert assets.find(database, [ONE], owner_id="other") == {}
    with pytest.raises(AssetNotFound, match=f"no picture with the id {ONE} has been uploaded"):
        assets.get(database, ONE, owner_id="other")

    begin_upload(database, ONE)

    assert assets.finish_upload(database, ONE, owner_id="other") == mine
    assert assets.get(database, ONE, owner_id="other") == mine
    assert assets.find(database, [ONE], owner_id="third") == {}


def test_owners_may_upload_the_same_picture_at_once(database: Database) -> None:
    begin_upload(database, ONE)
    owner = itertools.cycle("01")

    found = at_once(8, lambda: assets.finish_upload(database, ONE, owner_id=next(owner)))

    assert set(map(repr, found)) == {repr(found[0])}
    with database.read() as connection:
        owners = connection.execute(select(tables.asset_grants.c.owner_id)).scalars()
        assert sorted(owners) == ["0", "1"]


# Uploads that broke off.


def test_only_an_upload_that_is_given_up_gets_a_tombstone(database: Database) -> None:
    add(database, ONE)
    begin_upload(database, OTHER)
    begin_upload(database, MISSING)
    age(database, ONE, OTHER, MISSING)
    begin_upload(database, OTHER)  # somebody sends it once more

    assert tombstone(database) == [MISSING]
    assert tombstone(database) == [MISSING], "until its object is deleted"


def test_a_tombstoned_upload_can_neither_be_finished_nor_begun_again(database: Database) -> None:
    begin_upload(database, ONE)
    age(database, ONE)
    tombstone(database)

    with pytest.raises(Unavailable, match=f"the upload of {ONE} took too long"):
        assets.finish_upload(database, ONE)
    with pytest.raises(Unavailable, match=f"an earlier upload of {ONE} has left is being deleted"):
        begin_upload(database, ONE)

    assets.forget(database, ONE)
    assert add(database, ONE) == assets.get(database, ONE)


def test_what_is_stored_cannot_be_forgotten(database: Database) -> None:
    asset = add(database, ONE)

    assets.forget(database, ONE)

    assert assets.get(database, ONE) == asset


def test_what_is_to_be_known_of_a_picture_is_kept(database: Database) -> None:
    told = ["its profile is damaged: its colours are taken as sRGB"]
    assets.begin_upload(
        database, id=ONE, media_type="image/png", width=1, height=1, size_bytes=9, warnings=told
    )
    assert assets.finish_upload(database, ONE).warnings == told
    assert assets.find(database, [ONE])[ONE].warnings == told
    assert add(database, OTHER).warnings == []


def add(database: Database, id_: str, width: int = 640) -> assets.Asset:
    begin_upload(database, id_, width=width)
    return assets.finish_upload(database, id_)


def tombstone(database: Database) -> list[str]:
    return assets.tombstone(database, older_than_seconds=DAY, limit=10)


def age(database: Database, *ids: str) -> None:
    """Let more than a day go by."""
    with database.write() as connection:
        table = tables.assets
        of_them = update(table).where(table.c.id.in_(ids))
        connection.execute(of_them.values(created_at=now(-2 * DAY)))
