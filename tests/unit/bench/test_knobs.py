"""What the bench of knobs measures with."""

import numpy as np
import pytest

from bench.judge.judge import Trunks, read
from bench.knobs import Strokes
from bench.pictures import SAMPLES
from bench.sheet import CAPTION, GAP, sheet


@pytest.fixture(scope="module")
def trunks() -> Trunks:
    return Trunks()


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_size_of_strokes_is_measured_of_a_part_of_the_painting(
    trunks: Trunks, scale: float
) -> None:
    painting = SAMPLES / "brushstrokes.jpg"
    part = read(painting, round(128 * scale))[: round(80 * scale), : round(90 * scale)]

    assert Strokes(painting, 128, trunks).scale(part) == pytest.approx(scale, rel=0.25)


def test_a_sheet_has_a_row_for_each_pair_and_a_column_for_each_picture() -> None:
    red, blue = np.zeros((20, 40, 3)), np.zeros((20, 40, 3))
    red[..., 0], blue[..., 2] = 1, 1
    made = sheet([[red, blue], [blue, red]], ["one", "other"], tile=40)
    assert made.size == (80 + GAP, CAPTION + 2 * (20 + GAP))
    middle = CAPTION + 10
    corners = [(20, middle), (60 + GAP, middle), (20, middle + 20 + GAP), (60 + GAP, middle + 24)]
    assert [made.getpixel(at) for at in corners] == [
        *((255, 0, 0), (0, 0, 255)),
        *((0, 0, 255), (255, 0, 0)),
    ]
