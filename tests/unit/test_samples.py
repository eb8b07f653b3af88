"""The committed samples are what `samples/paint.py` paints, and are worth rendering."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.arrange.paths import SAMPLES

NAMES = ("skyline.jpg", "brushstrokes.jpg")
# Mean grey levels in the worst tile. Painting again on one machine differs by 0; the JPEGs are 4
# (skyline) and 8 (strokes) from their own canvases, so another build's rounding stays below that.
JPEG_ERROR = 8


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    command = [sys.executable, "-W", "error", str(SAMPLES / "paint.py"), "--out", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    assert done.stdout.splitlines() == [str(folder / name) for name in NAMES]
    return folder


def pixels(file: Path) -> NDArray[np.float32]:
    with Image.open(file) as picture:
        return np.asarray(picture, np.float32)


def worst_tile(difference: NDArray[np.float32]) -> float:
    """The mean absolute difference of the 64 x 64 pixels where it is largest."""
    return float(abs(difference).reshape(8, 64, 12, 64, 3).mean(axis=(1, 3, 4)).max())


@pytest.mark.parametrize("name", NAMES)
def test_painting_again_gives_the_committed_picture(name: str, painted: Path) -> None:
    committed, again = pixels(SAMPLES / name), pixels(painted / name)

    assert worst_tile(committed - again) < JPEG_ERROR
    assert worst_tile(committed - committed[:, ::-1]) > 5 * JPEG_ERROR, "the measure is blind"


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_large_enough_in_pixels_and_small_enough_in_bytes(name: str) -> None:
    with Image.open(SAMPLES / name) as picture:
        assert picture.format == "JPEG"
        assert picture.mode == "RGB"
        assert picture.size == (768, 512)
    assert (SAMPLES / name).stat().st_size < 200_000


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_has_contrast_everywhere_and_colours_both_warm_and_cool(name: str) -> None:
    picture = pixels(SAMPLES / name)
    tiles = picture.mean(-1).reshape(4, 128, 6, 128).std(axis=(1, 3))
    warmth = picture[..., 0] - picture[..., 2]

    assert tiles.min() > 5
    assert picture.std(axis=(0, 1)).min() > 30
    assert (warmth > 40).mean() > 0.1
    assert (warmth < -40).mean() > 0.1


def test_the_style_is_busier_than_the_content() -> None:
    content, style = (abs(np.diff(pixels(SAMPLES / name), axis=0)).mean() for name in NAMES)

    assert style > 1.5 * content
