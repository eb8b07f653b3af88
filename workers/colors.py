"""Colours that go from one picture to another before a render, or after it.

Sources: Gatys et al. 2016, "Preserving color in neural artistic style transfer"; Pitie and Kokaram
2007, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from impasto.shared.pictures.codec import Picture, Plane

from .images import Rendered

LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # BT.601's, as in YCbCr
_VARIANCE_MIN = 1.0  # a spread of less than a grey level is rounding, and not to be stretched
_KNEE = 32  # grey levels before black and white, within which colours are pressed together
_GAIN_MAX = 3.0  # of a content's contrast in any direction of colours: more is noise, and acid


class Source(NamedTuple):
    """One picture that colours are taken from.

    picture: (H, W, 3). opaque: (H, W), uint8, which of it counts; None for all.
    mask: (H', W'), uint8, of the other picture's size, where they go; None for everywhere.
    weight: its share.
    """

    picture: Picture
    opaque: Plane | None
    mask: Plane | None
    weight: float


class _Palette(NamedTuple):
    """Mean, (3,), and covariance, (3, 3), of colours in 0..255."""

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


def with_colors_of(image: Rendered, colors: Picture) -> Rendered:
    """The light of one picture with the colours of another of the same size.

    Luminance only. In YCbCr, whose two colours stay as they are where each channel moves by as
    much as the light does.
    """
    grey_levels = colors / np.float32(257) if colors.dtype == np.uint16 else colors
    return np.clip(grey_levels + ((image - grey_levels) @ LUMA)[..., None], 0, 255)


def filled(picture: Picture, opaque: Plane) -> Picture:
    """A picture whose mean colour stands where it is transparent, instead of white paper.

    opaque: its alpha channel. What is next to an edge sees across it.
    """
    if not opaque.any():
        return picture
    mean = np.rint(picture[opaque == opaque.max()].mean(axis=0)).astype(picture.dtype)
    return np.where((opaque > 0)[..., None], picture, mean)


def in_colors_of(content: Picture, sources: Sequence[Source], amount: float = 1.0) -> Picture:
    """A picture with the mean colour and the spread of colours of others.

    By the affine map that moves colours least (Monge and Kantorovich's, for Gaussians), so that
    hues keep their order: of all those without a mask together, and then of each mask's by itself.
    No direction of colours is stretched more than threefold: what is grey stays grey but for the
    mean, and noise stays noise. Nothing is cut off at black and white.
    amount: how far each colour moves, 0 not at all, 1 all the way.
    """
    everywhere = [source for source in sources if source.mask is None]
    found = content.copy()
    for group, mask in [
        *([(everywhere, None)] if everywhere else []),
        *(([source], source.mask) for source in sources if source.mask is not None),
    ]:
        _recolor(content, found, _mixed(group), mask, amount)
    return found


def _recolor(
    content: Picture, found: Picture, wanted: _Palette, mask: Plane | None, amount: float
) -> None:
    """Moves the colours of `found` to those that `content` is given, where the mask is white."""
    level = level_of(content)
    own = _palette(content, mask)
    move = _least_motion(own.covariance, wanted.covariance)
    offset = (wanted.mean - move @ own.mean) * level
    most = np.iinfo(content.dtype).max
    for y, row in enumerate(content):  # a large picture in float32 would take gigabytes
        part = amount if mask is None else amount * mask[y, :, None] / np.float32(255)
        moved = row @ move.T.astype(np.float32) + offset.astype(np.float32)
        mixed = found[y] + part * (pressed(moved, most, _KNEE * level) - found[y])
        found[y] = np.rint(mixed).astype(content.dtype)


def pressed(colors: NDArray[np.float32], most: int, knee: int) -> NDArray[np.float32]:
    """Within 0..most without an edge: what would be cut off keeps its order, and its detail."""
    above = np.maximum(colors - (most - knee), 0)
    below = np.maximum(knee - colors, 0)
    pressed = colors - above + below
    pressed += knee * (np.exp(-below / knee) - np.exp(-above / knee))
    return pressed


def _least_motion(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric map of colours from one covariance to another, its gains bounded."""
    before = before + _VARIANCE_MIN * np.eye(3)
    root, inverse = (_power(before, exponent, least=0) for exponent in (1 / 2, -1 / 2))
    move = inverse @ _power(root @ after @ root, 1 / 2, least=0) @ inverse
    gains, axes = np.linalg.eigh((move + move.T) / 2)
    bounded: NDArray[np.float64] = axes * np.minimum(gains, _GAIN_MAX) @ axes.T
    return bounded


def _mixed(sources: Sequence[Source]) -> _Palette:
    """Of all their colours together, by their shares."""
    shares = np.array([source.weight for source in sources])
    shares = shares / shares.sum()
    each = [_palette(source.picture, source.opaque) for source in sources]
    mean = sum(share * palette.mean for share, palette in zip(shares, each, strict=True))
    squares = sum(
        share * (palette.covariance + np.outer(palette.mean, palette.mean))
        for share, palette in zip(shares, each, strict=True)
    )
    return _Palette(mean, squares - np.outer(mean, mean))


def _palette(picture: Picture, where: Plane | None) -> _Palette:
    """Of what is white in a mask of its size; of all of it without one, or with a black one."""
    level = level_of(picture)
    if where is None or not where.any():
        mean, covariance = _statistics(picture)
        return _Palette(mean / level, covariance / level**2)
    total, squares, sums = 0.0, np.zeros((3, 3)), np.zeros(3)
    for row, part in zip(picture, where, strict=True):
        colors, weights = row.astype(np.float64) / level, part.astype(np.float64)
        total += weights.sum()
        sums += weights @ colors
        squares += (weights[:, None] * colors).T @ colors
    mean = sums / total
    return _Palette(mean, squares / total - np.outer(mean, mean))


def level_of(picture: Picture) -> int:
    """How many of its levels are one of 0..255."""
    return 257 if picture.dtype == np.uint16 else 1


def histogram_matched(picture: Picture, colors: Picture) -> Picture:
    """A picture whose red, green and blue have each the histogram of another's.

    A level becomes the one that stands at the same quantile there; nothing is dithered.
    """
    picture, colors = _alike(picture, colors)
    channels = [_like(picture[..., channel], colors[..., channel]) for channel in range(3)]
    return np.stack(channels, axis=2)


def covariance_matched(picture: Picture, colors: Picture) -> Picture:
    """A picture whose colours have the mean and the covariance of another's.

    By the affine map with C^1/2 S^-1/2, symmetric square roots of both covariances, in RGB; what
    falls outside 0..255 is cut off.
    """
    picture, colors = _alike(picture, colors)
    mean, covariance = _statistics(picture)
    wanted_mean, wanted_covariance = _statistics(colors)
    level = level_of(picture)
    whitening = _power(covariance, -1 / 2, least=_VARIANCE_MIN * level**2)
    turn = _power(wanted_covariance, 1 / 2, least=0) @ whitening
    turned = (picture - mean.astype(np.float32)) @ turn.T.astype(np.float32)
    most = np.iinfo(picture.dtype).max
    matched = np.rint(np.clip(turned + wanted_mean.astype(np.float32), 0, most))
    found: Picture = matched.astype(picture.dtype)
    return found


MATCHED: Mapping[str, Callable[[Picture, Picture], Picture]] = {
    "histogram": histogram_matched,
    "covariance": covariance_matched,
}
"""By `original_colors`: (style, content) to the style in the content's colours."""


def _alike(picture: Picture, colors: Picture) -> tuple[Picture, Picture]:
    """Both in 16 bits a channel if one of them is."""
    if picture.dtype == colors.dtype:
        return picture, colors
    deep = [
        each if each.dtype == np.uint16 else each * np.uint16(257) for each in (picture, colors)
    ]
    return deep[0], deep[1]


def _like(channel: Picture, wanted: Picture) -> Picture:
    count = np.iinfo(channel.dtype).max + 1
    counts, wanted_counts = (
        np.bincount(each.ravel(), minlength=count) for each in (channel, wanted)
    )
    middles = (np.cumsum(counts) - counts / 2) / channel.size  # each level's quantile
    levels = np.searchsorted(np.cumsum(wanted_counts) / wanted.size, middles)
    return levels.astype(channel.dtype)[channel]


def _statistics(picture: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean, (3,), and the covariance, (3, 3), of a picture's colours."""
    squares = np.zeros((3, 3))
    for row in picture:  # all of a large picture in float64 would take 6 GB
        colors = row.astype(np.float64)
        squares += colors.T @ colors  # whole numbers, and so exact up to 2^53
    mean = picture.mean(axis=(0, 1))
    pixels = picture.shape[0] * picture.shape[1]
    return mean, squares / pixels - np.outer(mean, mean)


def _power(covariance: NDArray[np.float64], exponent: float, least: float) -> NDArray[np.float64]:
    """A symmetric matrix to a power, its eigenvalues raised to a least one first."""
    spread, axes = np.linalg.eigh(covariance)
    raised: NDArray[np.float64] = axes * np.maximum(spread, least) ** exponent @ axes.T
    return raised
