"""The last touch to a picture: what it takes, and what it leaves."""

import numpy as np
import pytest

from workers.colors import LUMA
from workers.images import Rendered
from workers.smoothing import BAND, smoothed


def waves(period: float, color: tuple[float, float, float], shape: tuple[int, int]) -> Rendered:
    """Cosines down and across, about a middle grey."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = np.cos(2 * np.pi * y / period) + np.cos(2 * np.pi * x / period)
    return (128 + wave[..., None] * np.array(color)).astype(np.float32)


def contrast(image: Rendered) -> float:
    """Away from the frame, where waves are mirrored."""
    return float(image[16:-16, 16:-16].std(axis=(0, 1)).mean())


RED = (20.0, 0.0, -20 * 0.299 / 0.114)  # of no light


@pytest.mark.parametrize(
    ("period", "color", "low", "high"),
    [
        (2, (20, 20, 20), 0.0, 0.01),  # the grid of the first pool
        (4, (20, 20, 20), 0.85, 0.9),
        (8, (20, 20, 20), 0.99, 1.01),
        (2, RED, 0.0, 0.01),
        (4, RED, 0.0, 0.01),  # coloured grain
        (8, RED, 0.1, 0.2),
        (64, RED, 0.95, 1.0),
    ],
)
def test_fine_colours_go_and_light_stays_but_for_the_finest(
    period: int, color: tuple[float, float, float], low: float, high: float
) -> None:
    assert np.dot(RED, LUMA) == pytest.approx(0, abs=1e-5)
    image = waves(period, color, (160, 192))

    assert low <= contrast(smoothed(image)) / contrast(image) <= high


def test_what_is_even_stays_as_it_is() -> None:
    for shape in ((1, 1), (3, 70), (70, 3), (40, 40)):
        image = np.full((*shape, 3), (250, 3, 128), np.float32)
        assert np.abs(smoothed(image) - image).max() < 1e-3


def test_the_amount_is_how_much_of_it() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (40, 50, 3)).astype(np.float32)
    before = image.copy()

    assert smoothed(image, 0) is image
    half = (image + smoothed(image)) / 2
    assert np.abs(smoothed(image, 0.5) - half).max() < 1e-3
    assert np.array_equal(image, before)


def test_levels_stay_within_black_and_white() -> None:
    image = np.random.default_rng(2).choice([0, 255], (60, 60, 3)).astype(np.float32)

    assert smoothed(image).min() >= 0
    assert smoothed(image).max() <= 255


def test_a_large_picture_shows_no_seam_between_bands() -> None:
    image = np.random.default_rng(3).uniform(0, 255, (BAND + 40, 30, 3)).astype(np.float32)

    whole, lower = smoothed(image), smoothed(image[BAND - 20 :])

    assert np.abs(whole[BAND:] - lower[20:]).max() < 1e-3
    assert np.array_equal(whole[: BAND - 20], smoothed(image[:BAND])[: BAND - 20])
