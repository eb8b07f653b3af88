"""The last touch to a picture: without the coloured grain and the grid that pixels end with.

No layer of the network minds the finest colours, and its first pool sees pixels in pairs: what an
optimiser leaves there is noise. Light keeps its detail, colours are about as fine as in film. Grain
is seen where there is nothing else to see: colours are coarser where the photograph is flat.
"""

import numpy as np
from numpy.typing import NDArray

from impasto.shared.pictures.codec import Picture

from .colors import LUMA, level_of, pressed
from .images import Rendered

SIGMA, SIGMA_FLAT = 1.5, 4.0  # px, of the Gaussians over colours: where it is not flat, and where
FLAT = 16.0  # grey levels squared between neighbours: where both are as much in place
SIGMA_AROUND = 4.0  # px, of the Gaussian over those
KNEE = 12  # grey levels before black and white, within which levels are pressed together
REACH = 12  # px, how far any filter looks
BAND = 256  # rows at once: all of a large picture would take gigabytes


def smoothed(image: Rendered, photograph: Picture, amount: float = 1.0) -> Rendered:
    """A picture without its finest colours, without what has a period of 2 px, and not clipped.

    In YCbCr. photograph: what it was made of, of the same size. amount: how much of that is taken,
    0 none.
    """
    if not amount:
        return image
    height = len(image)
    rows = np.pad(np.arange(height), (REACH + 1, REACH), mode="reflect")
    found = np.empty_like(image)
    for top in range(0, height, BAND):
        end = min(top + BAND, height)
        within = rows[top : end + 1 + 2 * REACH]
        band, own = image[within[1:]], image[top:end]
        light = (band @ LUMA)[..., None]
        fine, coarse = (_filtered(band - light, colors) for colors in (_COLORS, _FLAT_COLORS))
        flat = _flatness(photograph[within])
        whole = _filtered(light, _LIGHT) + fine + flat * (coarse - fine)
        found[top:end] = own + np.float32(amount) * (pressed(whole, 255, KNEE) - own)
    return found


def _flatness(photograph: Picture) -> Rendered:
    """(H, W, 1), of (H + 1 + 2 * REACH, W, 3): from 0, where much is to be seen, to 1."""
    light = photograph @ (LUMA / np.float32(level_of(photograph)))
    energy = np.square(np.diff(light, axis=0))
    energy[:, 1:] += np.square(np.diff(light[1:], axis=1))
    flat: Rendered = FLAT / (FLAT + _filtered(energy[..., None], _AROUND))
    return flat


def _light_kernel() -> Rendered:
    """1 - sin(w / 2)^6: nothing of period 2, 0.6 of period 3, nearly all of what is longer."""
    taps = np.array((1, -6, 15, 44, 15, -6, 1)) / 64
    return np.pad(taps, REACH - 3).astype(np.float32)


def _gaussian(sigma: float) -> NDArray[np.float32]:
    weights = np.exp(-np.square(np.arange(-REACH, REACH + 1) / sigma) / 2)
    normed: NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return normed


_LIGHT = _light_kernel()
_COLORS, _FLAT_COLORS, _AROUND = map(_gaussian, (SIGMA, SIGMA_FLAT, SIGMA_AROUND))


def _filtered(planes: Rendered, kernel: Rendered) -> Rendered:
    """(H, W, C) of (H + 2 * REACH, W, C)."""
    width = planes.shape[1]
    height = len(planes) - 2 * REACH
    taps = [k for k, weight in enumerate(kernel) if abs(weight) > 1e-7]
    down: Rendered = sum(kernel[k] * planes[k : k + height] for k in taps)
    wide = np.pad(down, ((0, 0), (REACH, REACH), (0, 0)), mode="reflect")
    found: Rendered = sum(kernel[k] * wide[:, k : k + width] for k in taps)
    return found
