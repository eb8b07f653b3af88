"""What is found wrong with pictures that are spoilt in a known way."""

import numpy as np
import pytest
from skimage import color, data

from bench.judge.artefacts import FRAME, TILE, find_artefacts, flat_tiles, spectral_excess
from bench.judge.distances import Pixels
from bench.judge.judge import resized


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    return resized(data.chelsea() / 255, (176, 256))


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_a_photograph_has_nothing_that_it_does_not_have(photograph: Pixels) -> None:
    found = find_artefacts(photograph, photograph, photograph)
    assert (found.chroma_grain, found.flat_chroma_grain) == pytest.approx((1, 1))
    assert (found.peak, found.border, found.saturated) == pytest.approx((0, 1, 0))
    assert found.score == 0


def test_noise_of_colours_is_grain_and_noise_of_light_is_not(
    photograph: Pixels, random: np.random.Generator
) -> None:
    noise = 0.05 * random.standard_normal(photograph.shape[:2])
    coloured, grey = photograph.copy(), photograph + noise[..., None]
    coloured[..., 0] += noise
    ours = find_artefacts(coloured.clip(0, 1), photograph, photograph)
    theirs = find_artefacts(grey.clip(0, 1), photograph, photograph)
    assert ours.chroma_grain > 1.5
    assert ours.flat_chroma_grain > 3
    assert theirs.flat_chroma_grain < ours.flat_chroma_grain / 2


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_a_grid_stands_out_at_its_period_alone(random: np.random.Generator, period: int) -> None:
    down, across = np.mgrid[:192, :256]
    wave = np.cos(2 * np.pi * down / period) + np.cos(2 * np.pi * across / period)
    noisy = 50 + 5 * random.standard_normal(wave.shape)
    found = {p: spectral_excess(noisy + wave, p) for p in (2, 4, 8, 16)}
    assert found.pop(period) > 1
    assert max(found.values()) < 0.5


def test_the_flattest_quarter_is_where_nothing_is(random: np.random.Generator) -> None:
    luminance = 50 + 20 * random.standard_normal((8 * TILE, 8 * TILE + 3))
    luminance[: 2 * TILE] = 50
    flat = flat_tiles(luminance)
    assert flat[: 2 * TILE - 3, : 8 * TILE].mean() > 0.9  # but where the blur reaches over
    assert not flat[3 * TILE :].any()


def test_a_frame_is_more_restless_than_the_middle(
    photograph: Pixels, random: np.random.Generator
) -> None:
    framed = photograph.copy()
    framed[:FRAME] += 0.2 * random.standard_normal(framed[:FRAME].shape)
    found = find_artefacts(framed.clip(0, 1), photograph, photograph)
    assert found.border > 1.5


def test_strokes_all_over_are_no_frame_around_a_sky(random: np.random.Generator) -> None:
    photograph, painting = (0.1 * random.standard_normal((128, 192, 3)) + 0.5 for _ in range(2))
    photograph[:FRAME] = photograph[-FRAME:] = 0.5
    found = find_artefacts(painting.clip(0, 1), photograph.clip(0, 1), painting.clip(0, 1))
    assert found.border == 1


def test_only_what_inputs_have_not_is_saturated(photograph: Pixels) -> None:
    burnt = np.where(photograph > 0.5, 1.0, photograph)
    share = float((burnt == 1).mean())
    assert find_artefacts(burnt, photograph, photograph).saturated == pytest.approx(share, abs=0.01)
    assert find_artefacts(burnt, photograph, burnt).saturated == 0


def test_grey_pictures_have_no_grain_to_speak_of(photograph: Pixels) -> None:
    grey = np.repeat(color.rgb2gray(photograph)[..., None], 3, axis=2)
    assert find_artefacts(grey, grey, grey).flat_chroma_grain < 0.01
