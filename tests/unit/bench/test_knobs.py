"""What the bench of knobs measures with."""

import numpy as np
import pytest

from bench.judge.distances import Pixels
from bench.knobs import stroke_period
from bench.sheet import CAPTION, GAP, sheet


def stripes(period: float, angle: float, shape: tuple[int, int] = (128, 192)) -> Pixels:
    y, x = np.mgrid[: shape[0], : shape[1]]
    along = x * np.cos(angle) + y * np.sin(angle)
    grey = 0.5 + 0.4 * np.sin(2 * np.pi * along / period)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi / 2])
@pytest.mark.parametrize("period", [4.0, 6.0, 8.0])
def test_the_period_of_strokes_is_told_in_px_whichever_way_they_run(
    period: float, angle: float
) -> None:
    assert stroke_period(stripes(period, angle)) == pytest.approx(period, rel=0.1)


def test_light_and_shade_are_no_strokes() -> None:
    y, x = np.mgrid[:128, :192]
    shade = np.repeat((0.3 * np.sin(x / 40) + 0.3 * np.cos(y / 50))[..., None], 3, axis=2)
    assert stroke_period(stripes(6, 0.3) + shade) == pytest.approx(6, rel=0.15)


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
