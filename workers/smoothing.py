"""The last touch to a picture: without the coloured grain and the grid that pixels end with.

No layer of the network minds the finest colours, and its first pool sees pixels in pairs: what an
optimiser leaves there is noise. Light keeps its detail, colours are about as fine as in film.
"""

import numpy as np

from workers.colors import LUMA
from workers.images import Rendered

SIGMA = 2.5  # px, of the Gaussian over colours
REACH = 7  # px, how far either filter looks
BAND = 256  # rows at once: all of a large picture would take gigabytes


def smoothed(image: Rendered, amount: float = 1.0) -> Rendered:
    """A picture without its finest colours, and without what has a period of 2 px.

    In YCbCr. amount: how much of that is taken, 0 none.
    """
    if not amount:
        return image
    height = len(image)
    rows = np.pad(np.arange(height), REACH, mode="reflect")
    found = np.empty_like(image)
    for top in range(0, height, BAND):
        end = min(top + BAND, height)
        band = image[rows[top : end + 2 * REACH]]
        light = (band @ LUMA)[..., None]
        filtered = _filtered(light, _LIGHT) + _filtered(band - light, _COLORS)
        own = image[top:end]
        found[top:end] = own + np.float32(amount) * (np.clip(filtered, 0, 255) - own)
    return found


def _light_kernel() -> Rendered:
    """1 - sin(w / 2)^6: nothing of period 2, 0.6 of period 3, nearly all of what is longer."""
    taps = np.array((1, -6, 15, 44, 15, -6, 1)) / 64
    return np.pad(taps, REACH - 3).astype(np.float32)


def _colors_kernel() -> Rendered:
    weights = np.exp(-np.square(np.arange(-REACH, REACH + 1) / SIGMA) / 2)
    normed: Rendered = (weights / weights.sum()).astype(np.float32)
    return normed


_LIGHT, _COLORS = _light_kernel(), _colors_kernel()


def _filtered(planes: Rendered, kernel: Rendered) -> Rendered:
    """(H, W, C) of (H + 2 * REACH, W, C)."""
    width = planes.shape[1]
    height = len(planes) - 2 * REACH
    down: Rendered = sum(weight * planes[k : k + height] for k, weight in enumerate(kernel))
    wide = np.pad(down, ((0, 0), (REACH, REACH), (0, 0)), mode="reflect")
    found: Rendered = sum(weight * wide[:, k : k + width] for k, weight in enumerate(kernel))
    return found
