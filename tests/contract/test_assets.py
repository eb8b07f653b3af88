"""The pictures that were uploaded, on both databases."""

import pytest

from shared.database import Database, assets
from shared.errors import AssetNotFound

ONE, OTHER, MISSING = "1" * 64, "2" * 64, "3" * 64


def test_an_asset_is_known_by_its_id(database: Database) -> None:
    added = assets.add(
        database, id=ONE, media_type="image/png", width=640, height=480, size_bytes=2**33
    )

    assert assets.get(database, ONE) == added
    assert (added.id, added.media_type) == (ONE, "image/png")
    assert (added.width, added.height, added.size_bytes) == (640, 480, 2**33)


def test_an_asset_that_was_known_stays_as_it_was(database: Database) -> None:
    first = add(database, ONE, width=640)

    assert add(database, ONE, width=320) == first
    assert assets.get(database, ONE) == first


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


def add(database: Database, id_: str, width: int = 640) -> assets.Asset:
    return assets.add(
        database, id=id_, media_type="image/png", width=width, height=480, size_bytes=9
    )
