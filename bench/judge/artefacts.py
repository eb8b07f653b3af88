"""What a picture has that neither the photograph nor the painting has: grain, grids, frames.

Pixels are (H, W, 3), RGB, 0..1; the photograph is of the picture's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import color

from bench.judge.distances import Pixels

Plane = NDArray[np.float64]

TILE = 16  # px a side, of which the flattest quarter is looked at
FRAME = 8  # px
PERIODS = (2, 4, 8, 16)  # px: the strides of VGG19's pools
BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16
GRAIN_MIN = 0.25  # CIELAB: what rounding to 8 bits gives a flat colour


@dataclass(frozen=True)
class Artefacts:
    """chroma_grain: the highest octave's energy in a* and b*, over the more energetic input's.
    flat_chroma_grain: the same where the photograph is flat, over the smoother input's.
    peak: at the period of a pool, the largest excess of the spectrum above its neighbourhood,
        less the larger one of an input there.
    border: the luminance's energy in the frame over the middle's, over the larger of the inputs'.
    saturated: share of values at 0 or 255, less the larger share of an input.
    """

    chroma_grain: float
    flat_chroma_grain: float
    peak: float
    border: float
    saturated: float

    @property
    def excesses(self) -> dict[str, float]:
        """Of each, 0 where it is no worse than in the inputs, 1 where it is twice that or more."""
        found = {
            "chroma_grain": self.chroma_grain - 1,
            "flat_chroma_grain": self.flat_chroma_grain - 1,
            "peak": self.peak - 0.2,
            "border": self.border - 1,
            "saturated": 10 * self.saturated,
        }
        return {name: float(np.clip(excess, 0, 1)) for name, excess in found.items()}

    @property
    def score(self) -> float:
        """The mean of the excesses."""
        return float(np.mean(list(self.excesses.values())))


def find_artefacts(picture: Pixels, photograph: Pixels, painting: Pixels) -> Artefacts:
    labs = [color.rgb2lab(pixels) for pixels in (picture, photograph, painting)]
    ours, *inputs = (_chroma_energy(lab) for lab in labs)
    flat = flat_tiles(labs[1][..., 0])
    flat_painting = flat_tiles(labs[2][..., 0])
    ours_flat = _root_mean(ours, flat)
    inputs_flat = _root_mean(inputs[0], flat), _root_mean(inputs[1], flat_painting)
    frame, *input_frames = (_frame_ratio(lab[..., 0]) for lab in labs)
    shares = [_saturated(pixels) for pixels in (picture, photograph, painting)]
    return Artefacts(
        chroma_grain=_root_mean(ours) / max(GRAIN_MIN, *map(_root_mean, inputs)),
        flat_chroma_grain=ours_flat / max(GRAIN_MIN, min(inputs_flat)),
        peak=max(_excess_over_inputs([lab[..., 0] for lab in labs], period) for period in PERIODS),
        border=frame / max(1e-6, *input_frames),
        saturated=max(0.0, shares[0] - max(shares[1:])),
    )


def flat_tiles(luminance: Plane) -> NDArray[np.bool_]:
    """(H, W): where the quarter of the tiles is that has the least energy."""
    height, width = (side // TILE for side in luminance.shape)
    energy = np.square(_highest_octave(luminance))[: height * TILE, : width * TILE]
    tiles = energy.reshape(height, TILE, width, TILE).mean(axis=(1, 3))
    flat = tiles <= np.quantile(tiles, 0.25)
    found = np.zeros(luminance.shape, dtype=bool)
    found[: height * TILE, : width * TILE] = flat.repeat(TILE, 0).repeat(TILE, 1)
    return found


def spectral_excess(luminance: Plane, period: int) -> float:
    """How far the spectrum at a period stands above its neighbourhood: 0.2 is 20 %.

    Of rows and of columns, their mean: the grid of a pool has both, a row of windows has one.
    Lines are cut to a multiple of the period, so that it falls on one bin of the transform.
    """
    return (_excess(luminance, period) + _excess(luminance.T, period)) / 2


def _excess_over_inputs(luminances: Sequence[Plane], period: int) -> float:
    ours, *inputs = (spectral_excess(plane, period) for plane in luminances)
    return max(0.0, ours - max(inputs))


def _excess(rows: Plane, period: int) -> float:
    length = rows.shape[1] // 32 * 32
    if length < 64:
        return 0.0
    lines = _highest_octaves(rows)[:, :length]
    spectrum = np.square(np.abs(np.fft.rfft(lines, axis=1))).mean(axis=0)
    bin_ = length // period
    near = np.arange(bin_ - 8, bin_ + 9)
    around = near[(np.abs(near - bin_) > 2) & (near > 0) & (near < len(spectrum))]
    return float(max(0.0, spectrum[bin_] / max(np.median(spectrum[around]), 1e-9) - 1))


def _highest_octaves(rows: Plane) -> Plane:
    """Without what is longer than some 32 px, whose leaks would lie over all."""
    return rows - ndimage.gaussian_filter(rows, 8)


def _highest_octave(plane: Plane) -> Plane:
    blurred = plane
    for axis in (0, 1):
        blurred = ndimage.convolve1d(blurred, BINOMIAL, axis=axis, mode="reflect")
    return plane - blurred


def _chroma_energy(lab: Pixels) -> Plane:
    return sum(np.square(_highest_octave(lab[..., channel])) for channel in (1, 2))


def _root_mean(energy: Plane, where: NDArray[np.bool_] | None = None) -> float:
    return float(np.sqrt(energy[where].mean() if where is not None else energy.mean()))


def _frame_ratio(luminance: Plane) -> float:
    energy = np.square(_highest_octave(luminance))
    middle = np.zeros(luminance.shape, dtype=bool)
    middle[FRAME:-FRAME, FRAME:-FRAME] = True
    return float(np.sqrt(energy[~middle].mean() / max(energy[middle].mean(), 1e-9)))


def _saturated(pixels: Pixels) -> float:
    return float(np.mean((pixels <= 0.5 / 255) | (pixels >= 254.5 / 255)))
