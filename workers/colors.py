"""The colours of the content, given to its render or to its styles before it.

Source: Gatys et al. 2016, "Preserving color in neural artistic style transfer".
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from shared.pictures.codec import Picture, Plane
from workers.images import Rendered

_LUMA = np.array((0.299, 0.587, 0.114), np.float32)  # BT.601's, as in YCbCr
_VARIANCE_MIN = 1.0  # a spread of less than a grey level is rounding, and not to be stretched


def with_colors_of(image: Rendered, colors: Picture) -> Rendered:
    """The light of one picture with the colours of another of the same size.

    Luminance only. In YCbCr, whose two colours stay as they are where each channel moves by as
    much as the light does.
    """
    grey_levels = colors / np.float32(257) if colors.dtype == np.uint16 else colors
    return np.clip(grey_levels + ((image - grey_levels) @ _LUMA)[..., None], 0, 255)


def filled(picture: Picture, opaque: Plane) -> Picture:
    """A picture whose mean colour stands where it is transparent, instead of white paper.

    opaque: its alpha channel. What is next to an edge sees across it.
    """
    if not opaque.any():
        return picture
    mean = np.rint(picture[opaque == opaque.max()].mean(axis=0)).astype(picture.dtype)
    return np.where((opaque > 0)[..., None], picture, mean)


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
    level = 257 if picture.dtype == np.uint16 else 1
    whitening = _power(covariance, -1 / 2, least=_VARIANCE_MIN * level**2)
    turn = _power(wanted_covariance, 1 / 2, least=0) @ whitening
    turned = (picture - mean.astype(np.float32)) @ turn.T.astype(np.float32)
    most = np.iinfo(picture.dtype).max
    return np.rint(np.clip(turned + wanted_mean.astype(np.float32), 0, most)).astype(picture.dtype)


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
    return axes * np.maximum(spread, least) ** exponent @ axes.T
