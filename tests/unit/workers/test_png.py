"""What is written with 16 bits is what others read."""

import io

import numpy as np
import pytest
from PIL import Image

from impasto.workers import png
from tests.arrange.pictures import levels_of_png


def levels(height: int, width: int, channels: int) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("height", [1, 64, 150], ids=lambda height: f"{height} rows")
def test_every_level_is_read_again(height: int, channels: int) -> None:
    written = levels(height, 5, channels)

    assert np.array_equal(levels_of_png(png.encode(written)), written)


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (4, "RGBA")])
def test_pillow_reads_the_upper_bits(channels: int, mode: str) -> None:
    written = levels(70, 5, channels)

    with Image.open(io.BytesIO(png.encode(written))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (5, 70))
        assert np.array_equal(np.asarray(picture), written >> 8)


def test_neighbours_that_are_alike_take_little_room() -> None:
    ramp = np.arange(0, 65536, 64, dtype=np.uint16)
    smooth = np.stack([np.tile(ramp, (64, 1))] * 3, axis=2)

    assert len(png.encode(smooth)) < smooth.nbytes / 100
