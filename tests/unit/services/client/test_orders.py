from pathlib import Path

import pytest

from impasto.services.client import InvalidSpec, Order
from impasto.shared.object_keys import digest
from impasto.shared.spec import JobSpec
from tests.arrange.pictures import paint

CONTENT, STYLE, OTHER, MASK = paint(1), paint(2), paint(3), paint(4)


def test_an_order_names_its_pictures_by_their_digest(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(CONTENT)
    order = Order.of(path, STYLE)
    assert order.spec.assets() == [digest(CONTENT), digest(STYLE)]
    assert order.files[digest(CONTENT)].name == str(path)
    assert {file.data for file in order.files.values()} == {CONTENT, STYLE}


@pytest.mark.parametrize(
    ("styles", "shares"),
    [
        (STYLE, [1]),
        ([STYLE], [1]),
        ((STYLE, OTHER), [0.5, 0.5]),
        ({STYLE: 3, OTHER: 1}, [0.75, 0.25]),
        ([(STYLE, 3), OTHER], [0.75, 0.25]),
    ],
)
def test_styles_are_one_several_or_weighted(styles: object, shares: list[float]) -> None:
    assert [style.weight for style in Order.of(CONTENT, styles).spec.styles] == shares


def test_masks_go_with_the_styles_in_their_order() -> None:
    order = Order.of(CONTENT, [STYLE, OTHER, CONTENT], masks=[MASK, None])
    assert [style.mask for style in order.spec.styles] == [digest(MASK), None, None]
    assert order.files[digest(MASK)].data == MASK


def test_the_same_painting_may_apply_twice() -> None:
    order = Order.of(CONTENT, [(STYLE, 3), (STYLE, 1)], masks=[MASK, OTHER])
    told = [(style.weight, style.mask) for style in order.spec.styles]
    assert told == [(0.75, digest(MASK)), (0.25, digest(OTHER))]


def test_there_are_no_more_masks_than_styles() -> None:
    with pytest.raises(InvalidSpec, match="mask is '2 in number', accepted: at most 1, one for"):
        Order.of(CONTENT, STYLE, masks=[MASK, None])


def test_a_picture_to_start_from_says_how_to_start() -> None:
    spec = Order.of(CONTENT, STYLE, init_asset=OTHER).spec
    assert (spec.init, spec.init_asset) == ("asset", digest(OTHER))
    with pytest.raises(InvalidSpec, match="init_asset is needed with init: asset"):
        Order.of(CONTENT, STYLE, init_asset=OTHER, init="noise")


def test_the_same_picture_travels_once() -> None:
    assert len(Order.of(CONTENT, [CONTENT, CONTENT]).files) == 1


def test_an_order_reads_the_same_on_the_server() -> None:
    spec = Order.of(CONTENT, [STYLE, OTHER, CONTENT], style_layers=["block1", "block2"]).spec
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(InvalidSpec, match="sise is 512, accepted: one of the fields content"):
        Order.of(CONTENT, STYLE, sise=512)
