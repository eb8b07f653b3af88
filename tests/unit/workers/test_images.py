"""Pictures leave as they are."""

import io

import numpy as np
import pytest
from PIL import Image

from impasto.shared.spec import Format
from impasto.workers import images
from tests.arrange.pictures import levels_of_png, noise

SIZE = (48, 36)
ALPHA = noise(7).getchannel("R")
RENDERED = np.linspace(0, 255, 36 * 48 * 3, dtype=np.float32).reshape(36, 48, 3)
FORMATS: list[Format] = ["png", "jpeg", "webp"]


def read(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("format", FORMATS)
def test_a_result_is_a_file_of_its_format_and_always_the_same(format: Format) -> None:
    data = images.encode(RENDERED, format)

    assert data == images.encode(RENDERED, format)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == (format.upper(), "RGB", SIZE)


def test_a_png_holds_the_nearest_levels() -> None:
    picture = read(images.encode(RENDERED, "png"))

    assert np.array_equal(picture, np.floor(RENDERED.astype(np.float64) + 0.5))


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_more_quality_is_nearer_and_larger(format: Format) -> None:
    rough, fine = (images.encode(RENDERED, format, quality=quality) for quality in (10, 95))

    assert len(rough) < len(fine)
    errors = [np.abs(read(data) - RENDERED).mean() for data in (rough, fine)]
    assert errors[1] < errors[0]
    assert errors[1] < 4


@pytest.mark.parametrize("format", ["png", "webp"])
def test_a_result_carries_the_alpha_channel_as_it_is(format: Format) -> None:
    picture = read(images.encode(RENDERED, format, alpha=np.asarray(ALPHA)))

    assert np.array_equal(picture[..., 3], np.asarray(ALPHA))


def test_the_colors_of_a_png_do_not_depend_on_its_alpha_channel() -> None:
    plain = read(images.encode(RENDERED, "png"))

    assert np.array_equal(
        read(images.encode(RENDERED, "png", alpha=np.asarray(ALPHA)))[..., :3], plain
    )


def test_a_jpeg_lies_on_white() -> None:
    opaque = np.zeros((36, 48), np.uint8)
    opaque[:, :16], opaque[:, 16:32] = 255, 51  # all of it, a fifth, nothing
    black = np.zeros((36, 48, 3), np.float32)

    picture = read(images.encode(black, "jpeg", quality=100, alpha=opaque)).astype(int)

    assert [picture[18, x].tolist() for x in (8, 40)] == [[0, 0, 0], [255, 255, 255]]
    assert np.abs(picture[18, 24] - 204).max() <= 1


def test_sixteen_bits_hold_the_nearest_levels_and_the_alpha_channel() -> None:
    levels = levels_of_png(images.encode(RENDERED, "png", bits=16, alpha=np.asarray(ALPHA)))

    exact = RENDERED.astype(np.float64) * 257
    assert np.abs(levels[..., :3] - exact).max() <= 0.51  # half a level, and float32's own error
    assert np.array_equal(levels[..., 3], np.asarray(ALPHA).astype(int) * 257)
    assert len(np.unique(levels[..., :3])) > 5000


def test_a_snapshot_is_a_jpeg() -> None:
    with Image.open(io.BytesIO(images.encode_snapshot(RENDERED))) as picture:
        assert (picture.format, picture.size) == ("JPEG", SIZE)
