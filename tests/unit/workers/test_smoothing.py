"""The last touch to a picture: what it takes, and what it leaves."""

import numpy as np
import pytest

from impasto.shared.pictures.codec import Picture
from impasto.workers.colors import LUMA
from impasto.workers.images import Rendered
from impasto.workers.smoothing import BAND, smoothed


def waves(period: float, color: tuple[float, float, float], shape: tuple[int, int]) -> Rendered:
    """Cosines down and across, about a middle grey."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    wave = np.cos(2 * np.pi * y / period) + np.cos(2 * np.pi * x / period)
    return (128 + wave[..., None] * np.array(color)).astype(np.float32)


def contrast(image: Rendered) -> float:
    """Away from the frame, where waves are mirrored."""
    return float(image[16:-16, 16:-16].std(axis=(0, 1)).mean())


def photograph(shape: tuple[int, ...], contrast: float) -> Picture:
    """Of noise: with a contrast of 0 there is nothing to see."""
    noise = np.random.default_rng(7).normal(128, contrast, (*shape[:2], 1)).clip(0, 255)
    return np.broadcast_to(noise, (*shape[:2], 3)).astype(np.uint8)


FLAT, BUSY = 0.0, 60.0
RED = (20.0, 0.0, -20 * 0.299 / 0.114)  # of no light


@pytest.mark.parametrize(
    ("period", "color", "busy", "flat"),
    [
        (2, (20, 20, 20), 0.0, 0.0),  # the grid of the first pool
        (4, (20, 20, 20), 0.875, 0.875),
        (8, (20, 20, 20), 1.0, 1.0),
        (2, RED, 0.0, 0.0),
        (4, RED, 0.06, 0.0),  # coloured grain
        (8, RED, 0.5, 0.0),
        (64, RED, 0.99, 0.93),
    ],
)
def test_fine_colours_go_and_light_stays_but_for_the_finest(
    period: int, color: tuple[float, float, float], busy: float, flat: float
) -> None:
    assert np.dot(RED, LUMA) == pytest.approx(0, abs=1e-5)
    image = waves(period, color, (160, 192))

    for expected, of_photograph in ((busy, BUSY), (flat, FLAT)):
        left = contrast(smoothed(image, photograph(image.shape, of_photograph)))
        assert left / contrast(image) == pytest.approx(expected, abs=0.02)


def test_how_flat_a_photograph_is_does_not_depend_on_its_bits() -> None:
    image = waves(6, RED, (60, 70))
    eight = photograph(image.shape, 4.0)

    sixteen = smoothed(image, eight.astype(np.uint16) * 257)

    assert np.abs(sixteen - smoothed(image, eight)).max() < 1e-3


def test_what_is_even_stays_as_it_is() -> None:
    for shape in ((1, 1), (3, 70), (70, 3), (40, 40)):
        image = np.full((*shape, 3), (240, 30, 128), np.float32)
        assert np.abs(smoothed(image, photograph(shape, FLAT)) - image).max() < 1e-3


def test_the_amount_is_how_much_of_it() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (40, 50, 3)).astype(np.float32)
    before, own = image.copy(), photograph(image.shape, BUSY)

    assert smoothed(image, own, 0) is image
    half = (image + smoothed(image, own)) / 2
    assert np.abs(smoothed(image, own, 0.5) - half).max() < 1e-3
    assert np.array_equal(image, before)


def test_levels_stay_within_black_and_white_and_in_order() -> None:
    steps = np.linspace(0, 255, 52, dtype=np.float32).repeat(30)
    image = np.broadcast_to(steps[None, :, None], (40, len(steps), 3))

    found = smoothed(image, photograph(image.shape, FLAT))[20, 15::30, 1]

    assert (np.diff(found) > 0).all()  # no two of them are one
    assert 0 < found[0] < found[-1] < 255
    assert np.abs(found - steps[::30])[3:-3].max() < 0.1


def test_noise_stays_within_black_and_white() -> None:
    image = np.random.default_rng(2).choice([0, 255], (60, 60, 3)).astype(np.float32)

    found = smoothed(image, photograph(image.shape, BUSY))

    assert found.min() >= 0
    assert found.max() <= 255


def test_a_large_picture_shows_no_seam_between_bands() -> None:
    image = np.random.default_rng(3).uniform(0, 255, (BAND + 40, 30, 3)).astype(np.float32)
    own = photograph(image.shape, 6.0)

    whole, lower = smoothed(image, own), smoothed(image[BAND - 30 :], own[BAND - 30 :])

    assert np.abs(whole[BAND:] - lower[30:]).max() < 1e-3
    upper = smoothed(image[:BAND], own[:BAND])
    assert np.abs(whole[: BAND - 30] - upper[: BAND - 30]).max() < 1e-3
