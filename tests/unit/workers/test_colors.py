"""The colours of the content, against moments and quantiles in float64."""

import numpy as np
import pytest
from PIL import Image

from impasto.workers import colors


def cloud(seed: int, mean: tuple[int, ...], *mix: tuple[int, ...]) -> np.ndarray:
    """A picture of normal colours, correlated by a matrix, that stay inside 0..255."""
    mixed = np.random.default_rng(seed).normal(size=(60, 80, 3)) @ mix + mean
    assert 0 < mixed.min() < mixed.max() < 255
    return mixed.round().astype(np.uint8)


STYLE = cloud(1, (120, 100, 140), (20, 5, 0), (0, 8, 3), (0, 0, 15))
CONTENT = cloud(2, (110, 150, 100), (12, 8, -5), (0, 9, 4), (0, 0, 7))
GREY = np.repeat(cloud(3, (128, 128, 128), (20, 0, 0), (0, 1, 0), (0, 0, 1))[..., :1], 3, axis=2)
FLAT = np.full((20, 30, 3), (10, 200, 90), np.uint8)


def mean(picture: np.ndarray) -> np.ndarray:
    return picture.reshape(-1, 3).astype(np.float64).mean(axis=0)


def covariance(picture: np.ndarray) -> np.ndarray:
    return np.cov(picture.reshape(-1, 3).astype(np.float64), rowvar=False, bias=True)


# Covariance.


def test_a_style_gets_the_mean_and_the_covariance_of_the_content() -> None:
    matched = colors.covariance_matched(STYLE, CONTENT)

    assert (matched.dtype, matched.shape) == (np.uint8, STYLE.shape)
    assert np.abs(mean(matched) - mean(CONTENT)).max() < 0.05
    wanted = covariance(CONTENT) + np.eye(3) / 12  # rounding to whole levels adds a twelfth
    assert np.abs(covariance(matched) - wanted).max() < 0.005 * wanted.max()


def test_the_map_between_the_colors_is_symmetric_where_the_style_is_white() -> None:
    # With the identity for a covariance, C^1/2 alone is left of the map; a Cholesky factor, which
    # gives the same covariance, is triangular.
    white = cloud(4, (128, 128, 128), (20, 0, 0), (0, 20, 0), (0, 0, 20))

    matched = colors.covariance_matched(white, CONTENT).reshape(-1, 3).astype(np.float64)

    sources = np.c_[white.reshape(-1, 3), np.ones(white.size // 3)]
    turn = np.linalg.lstsq(sources, matched, rcond=None)[0][:3]
    assert np.abs(turn - turn.T).max() < 0.03 * np.abs(turn).max()
    assert np.abs(turn[0, 1:]).max() > 0.1 * np.abs(turn).max()  # it does turn


def test_a_picture_keeps_its_own_colors() -> None:
    assert np.array_equal(colors.covariance_matched(STYLE, STYLE), STYLE)
    assert np.array_equal(colors.histogram_matched(STYLE, STYLE), STYLE)


@pytest.mark.parametrize("style", [GREY, FLAT, GREY[:1, :1]], ids=["grey", "flat", "a pixel"])
def test_a_style_without_colors_gets_the_mean_and_no_noise(style: np.ndarray) -> None:
    matched = colors.covariance_matched(style, CONTENT)

    assert np.abs(mean(matched) - mean(CONTENT)).max() <= 0.5
    assert (covariance(matched).diagonal() < 1.1 * covariance(CONTENT).diagonal() + 0.1).all()


@pytest.mark.parametrize("content", [GREY, FLAT], ids=["grey", "flat"])
def test_a_content_without_colors_takes_them_from_the_style(content: np.ndarray) -> None:
    matched = colors.covariance_matched(STYLE, content)

    assert np.abs(mean(matched) - mean(content)).max() < 0.1
    assert np.abs(covariance(matched) - covariance(content)).max() < 0.01 * content.max() + 0.5


def test_the_rounding_of_a_grey_style_is_not_taken_for_its_colors() -> None:
    specks = np.random.default_rng(5).random(GREY.shape) < 0.05
    speckled = GREY + specks.astype(np.uint8)  # a grey level here and there

    plain, found = (colors.covariance_matched(style, CONTENT) for style in (GREY, speckled))

    assert np.abs(found.astype(int) - plain).mean() < 1


def test_a_color_beyond_what_a_picture_holds_is_cut_off() -> None:
    style = np.full((60, 80, 3), 100, np.uint8)
    style[7, 9] = 255  # so far from the others that it will be far brighter than white

    matched = colors.covariance_matched(style, CONTENT)

    assert matched[7, 9].max() == 255
    assert np.abs(np.delete(matched.reshape(-1, 3), 7 * 80 + 9, axis=0) - mean(CONTENT)).max() < 1


# Histogram.


def test_a_style_gets_the_quantiles_of_the_content() -> None:
    matched = colors.histogram_matched(STYLE, CONTENT)

    assert (matched.dtype, matched.shape) == (np.uint8, STYLE.shape)
    at = np.linspace(0.02, 0.98, 25)
    for channel in range(3):
        found, wanted, own = (
            np.quantile(picture[..., channel].astype(np.float64), at)
            for picture in (matched, CONTENT, STYLE)
        )
        assert np.abs(found - wanted).max() <= 2
        assert np.abs(own - wanted).max() > 10


def test_a_level_becomes_the_one_in_the_middle_of_its_share() -> None:
    halves = np.repeat(np.array([[[0] * 3, [255] * 3]], np.uint8), 4, axis=0)
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)

    matched = colors.histogram_matched(halves, ramp)

    assert (matched[:, 0] == 63).all()  # a quarter of the ramp is at most that
    assert (matched[:, 1] == 191).all()


def test_brighter_stays_brighter() -> None:
    matched = colors.histogram_matched(STYLE, CONTENT)

    for channel in range(3):
        order = np.argsort(STYLE[..., channel], axis=None)
        assert (np.diff(matched[..., channel].ravel()[order].astype(int)) >= 0).all()


def test_a_style_of_other_size_gets_only_colors_of_the_content() -> None:
    matched = colors.histogram_matched(STYLE, FLAT)

    assert (matched == FLAT[0, 0]).all()


# Luminance.


def test_the_colors_of_one_picture_go_with_the_light_of_another() -> None:
    light = np.linspace(0, 255, 48 * 36, dtype=np.float32).reshape(36, 48)
    rendered = np.repeat(light[..., None], 3, axis=2)
    content = np.full((36, 48, 3), (180, 90, 60), np.uint8)

    mixed = colors.with_colors_of(rendered, content)

    y, blue, red = Image.fromarray(mixed.round().astype(np.uint8)).convert("YCbCr").split()
    _, wanted_blue, wanted_red = Image.fromarray(content).convert("YCbCr").getpixel((0, 0))
    inside = (light > 90) & (light < 160)  # elsewhere RGB cannot hold that colour in that light
    assert mixed.dtype == np.float32
    assert np.abs(np.asarray(y) - light)[inside].max() <= 1.5
    assert np.abs(np.asarray(blue).astype(int) - wanted_blue)[inside].max() <= 1
    assert np.abs(np.asarray(red).astype(int) - wanted_red)[inside].max() <= 1
    assert mixed.min() >= 0
    assert mixed.max() <= 255
    assert len(np.unique(mixed)) > 256  # what is finer than a grey level is kept


# The content in its styles' colours.


def test_the_content_gets_the_mean_and_the_covariance_of_its_styles() -> None:
    found = colors.in_colors_of(CONTENT, [colors.Source(STYLE, None, None, 1.0)])

    assert (found.dtype, found.shape) == (np.uint8, CONTENT.shape)
    assert np.abs(mean(found) - mean(STYLE)).max() < 0.5
    assert np.abs(covariance(found) - covariance(STYLE)).max() < 0.05 * covariance(STYLE).max()


def test_colours_keep_their_order_and_move_as_far_as_is_asked() -> None:
    source = [colors.Source(STYLE, None, None, 1.0)]
    none, half, whole = (colors.in_colors_of(CONTENT, source, amount) for amount in (0, 0.5, 1))
    assert np.array_equal(none, CONTENT)
    assert np.abs(half - (CONTENT.astype(float) + whole) / 2).max() <= 1
    # The map that moves colours least is symmetric, and turns no direction round.
    before = np.c_[CONTENT.reshape(-1, 3), np.ones(CONTENT.size // 3)]
    move = np.linalg.lstsq(before, whole.reshape(-1, 3).astype(float), rcond=None)[0][:3]
    assert np.abs(move - move.T).max() < 0.03 * np.abs(move).max()
    assert np.linalg.eigvalsh((move + move.T) / 2).min() > 0


def test_styles_count_by_their_shares_and_only_where_they_are_painted() -> None:
    flat = [np.full((8, 8, 3), color, np.uint8) for color in ((40, 80, 200), (200, 160, 40))]
    found = colors.in_colors_of(
        CONTENT, [colors.Source(flat[0], None, None, 1.0), colors.Source(flat[1], None, None, 3.0)]
    )
    assert np.abs(mean(found) - (160, 140, 80)).max() < 2

    opaque = np.zeros((8, 16), np.uint8)
    opaque[:, :8] = 255
    halved = np.concatenate(flat, axis=1)
    found = colors.in_colors_of(CONTENT, [colors.Source(halved, opaque, None, 1.0)])
    assert np.abs(mean(found) - (40, 80, 200)).max() < 2


def test_each_region_gets_the_colours_of_its_own_style() -> None:
    left = np.zeros(CONTENT.shape[:2], np.uint8)
    left[:, :40] = 255
    flat = [np.full((8, 8, 3), color, np.uint8) for color in ((40, 80, 200), (200, 160, 40))]
    found = colors.in_colors_of(
        CONTENT,
        [colors.Source(flat[0], None, left, 1.0), colors.Source(flat[1], None, 255 - left, 1.0)],
    )
    assert np.abs(mean(found[:, :40]) - (40, 80, 200)).max() < 2
    assert np.abs(mean(found[:, 40:]) - (200, 160, 40)).max() < 2

    alone = colors.in_colors_of(CONTENT, [colors.Source(flat[0], None, left, 1.0)])
    assert np.array_equal(alone[:, 40:], CONTENT[:, 40:])


@pytest.mark.parametrize("content", [GREY, FLAT], ids=["grey", "flat"])
def test_what_has_no_colours_of_its_own_gets_no_speckles(content: np.ndarray) -> None:
    speckled = content.copy()
    speckled[::2, ::2, 0] += 1
    vivid = cloud(5, (128, 128, 128), (30, -20, 5), (-10, 25, 5), (5, -10, 30))
    found = colors.in_colors_of(speckled, [colors.Source(vivid, None, None, 1.0)])
    plain = colors.in_colors_of(content, [colors.Source(vivid, None, None, 1.0)])
    assert np.abs(found.astype(int) - plain).max() <= 4  # a level, stretched threefold at most


def test_sixteen_bits_are_as_eight() -> None:
    deep = CONTENT.astype(np.uint16) * 257
    for style in (STYLE, STYLE.astype(np.uint16) * 257):
        found = colors.in_colors_of(deep, [colors.Source(style, None, None, 1.0)])
        eight = colors.in_colors_of(CONTENT, [colors.Source(STYLE, None, None, 1.0)])
        assert found.dtype == np.uint16
        assert np.abs(found / 257 - eight).max() <= 0.51
