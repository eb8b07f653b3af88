"""Distances between pictures: of colours, of textures, of what is where.

Each takes what it compares in any size of its own, unless it says that positions must agree.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import color, filters
from torch import Tensor
from torch.nn import functional

DIRECTIONS = 64
QUANTILES = 256
HISTOGRAM_BINS = 64
HISTOGRAM_PIXELS = 16_000
HISTOGRAM_WIDTH = 0.02  # of the kernel, squared: the paper's tau^2
SPREAD_MIN = 0.1  # of a layer's mean deviation
GRID = 24  # cells a side, at most, whose likeness to each other is compared

Pixels = NDArray[np.float64]  # (H, W, 3), RGB, 0..1


def sliced_wasserstein(ours: Tensor, theirs: Tensor) -> float:
    """Mean distance of two clouds of points along random directions. (N, C) and (M, C).

    The directions are the same at each call with the same C.
    Source: Rabin et al. 2011, "Wasserstein Barycenter and its Application to Texture Mixing".
    """
    generator = torch.Generator().manual_seed(ours.shape[1])
    directions = torch.randn(ours.shape[1], DIRECTIONS, generator=generator)
    directions /= directions.norm(dim=0)
    one, other = (_quantiles(cloud @ directions) for cloud in (ours, theirs))
    return (one - other).abs().mean().item()


def lab_distance(ours: Pixels, theirs: Pixels) -> float:
    """Sliced Wasserstein distance of the colours, in CIELAB: about the steps that people see."""
    one, other = (
        torch.tensor(color.rgb2lab(pixels).reshape(-1, 3), dtype=torch.float32)
        for pixels in (ours, theirs)
    )
    return sliced_wasserstein(one, other)


def histogram_distance(ours: Pixels, theirs: Pixels) -> float:
    """Hellinger distance of the RGB-uv histograms, 0..1.

    Source: Afifi et al. 2021, "HistoGAN", eq. 2 to 5, arXiv:2011.11731.
    """
    one, other = _histogram(ours), _histogram(theirs)
    return float(np.sqrt(np.square(np.sqrt(one) - np.sqrt(other)).sum() / 2))


def feature_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Sliced Wasserstein distance of the features, in their deviations: the mean of the layers.

    ours, theirs: of each layer, (1, C, H, W) and (1, C, H', W').
    """
    found = []
    for one, other in zip(map(_positions, ours), map(_positions, theirs), strict=True):
        spread = other.std(dim=0)
        # A channel that says next to nothing in the painting is not to drown all others.
        scale = spread.clamp(min=max(1e-6, SPREAD_MIN * float(spread.mean())))
        found.append(sliced_wasserstein(one / scale, other / scale))
    return float(np.mean(found))


def gram_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Relative error of the Gram matrices: the mean of the layers, (1, C, H, W), (1, C, H', W')."""
    found = []
    for pair in zip(ours, theirs, strict=True):
        one, other = (x.T @ x / len(x) for x in map(_positions, pair))
        found.append(((one - other).norm() / other.norm()).item())
    return float(np.mean(found))


def self_similarity_distance(ours: Tensor, theirs: Tensor) -> float:
    """How otherwise the places of one picture resemble each other than those of the other.

    ours, theirs: features of one layer, (1, C, H, W), of pictures of one size.
    Source: Kolkin et al. 2019, "Style Transfer by Relaxed Optimal Transport", eq. 8.
    """
    one, other = map(_similarities, (ours, theirs))
    return (one - other).abs().mean().item()


def edge_distance(ours: Pixels, theirs: Pixels, sigma: float) -> float:
    """How otherwise our edges run than theirs, weighed by theirs: 0 alike, 0.5 at random.

    Pixels of one size. sigma: px, of the blur that takes away what is no edge but a stroke.
    """
    one, other = (_orientation(pixels, sigma) for pixels in (ours, theirs))
    weights = np.abs(other)
    if not (whole := weights.sum()):
        return 0.0
    alike = np.real(one * np.conj(other)) / np.maximum(np.abs(one), 1e-9)
    return float((1 - alike.sum() / whole) / 2)


def _positions(features: Tensor) -> Tensor:
    """(H*W, C) of (1, C, H, W)."""
    return features[0].flatten(1).T


def _quantiles(projected: Tensor) -> Tensor:
    """(QUANTILES, D) of (N, D)."""
    ordered = projected.sort(dim=0).values
    places = (torch.arange(QUANTILES) + 0.5) / QUANTILES * len(ordered)
    return ordered[places.long().clamp(max=len(ordered) - 1)]


def _histogram(pixels: Pixels) -> Pixels:
    flat = pixels.reshape(-1, 3)
    flat = flat[:: max(1, len(flat) // HISTOGRAM_PIXELS)]
    bins = np.linspace(-3, 3, HISTOGRAM_BINS)
    logarithms = np.log(flat + 1e-6)
    intensity = np.linalg.norm(flat, axis=1)

    def kernel(values: Pixels) -> Pixels:
        return 1 / (1 + np.square(values[:, None] - bins) / HISTOGRAM_WIDTH)

    planes = []
    for channel in range(3):
        u, v = (logarithms[:, channel] - logarithms[:, (channel + n) % 3] for n in (1, 2))
        planes.append((kernel(u) * intensity[:, None]).T @ kernel(v))
    histogram = np.stack(planes)
    return histogram / max(histogram.sum(), 1e-12)


def _similarities(features: Tensor) -> Tensor:
    size = [min(side, GRID) for side in features.shape[-2:]]
    cells = functional.adaptive_avg_pool2d(features, size)[0].flatten(1)
    cells = cells - cells.mean(dim=1, keepdim=True)
    cells = cells / cells.norm(dim=0).clamp(min=1e-6)
    return cells.T @ cells


def _orientation(pixels: Pixels, sigma: float) -> NDArray[np.complex128]:
    """The gradient with its angle doubled, so that dark on light is light on dark."""
    grey = filters.gaussian(color.rgb2gray(pixels), sigma)
    across, down = filters.sobel_v(grey), filters.sobel_h(grey)
    length = np.hypot(across, down)
    return np.square(across + 1j * down) / np.maximum(length, 1e-9)
