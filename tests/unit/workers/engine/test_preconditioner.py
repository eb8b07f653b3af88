import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.workers.engine.optim.preconditioner import smooth, smoothed_squares


def smoothed(images: Tensor, levels: int) -> Tensor:
    images = images.clone()
    smooth(images, levels)
    return images


def by_octaves(image: NDArray[np.float64], levels: int) -> NDArray[np.float64]:
    """`smooth`, another way: with a matrix for each side, of the tents that enlarge it."""
    height, width = image.shape[-2:]
    if levels == 0 or min(height, width) < 4:
        return image
    down, across = tents(height), tents(width)
    halved = down.T @ image @ across / 4
    return image + down @ by_octaves(halved, levels - 1) @ across.T


def tents(length: int) -> NDArray[np.float64]:
    """(length, length // 2): linear interpolation between the centres of pairs; 0 beyond them."""
    pixels, pairs = np.arange(length) + 0.5, 2 * np.arange(length // 2) + 1
    return np.maximum(0, 1 - np.abs(pixels[:, None] - pairs) / 2)


@pytest.mark.parametrize("levels", [0, 1, 2, 4])
@pytest.mark.parametrize("size", [(3, 9), (4, 4), (7, 5), (16, 23), (64, 50)])
def test_smoothed_adds_a_blur_for_each_octave(size: tuple[int, int], levels: int) -> None:
    image = torch.randn((1, 3, *size), generator=torch.manual_seed(1), dtype=torch.float64)
    expected = torch.from_numpy(by_octaves(image.numpy(), levels))
    torch.testing.assert_close(smoothed(image, levels), expected)


@pytest.mark.parametrize("levels", [0, 1, 4])
@pytest.mark.parametrize("size", [(3, 9), (7, 5), (64, 50)])
def test_smoothed_square_is_the_product_with_what_is_smoothed(
    size: tuple[int, int], levels: int
) -> None:
    images = torch.randn((2, 3, *size), generator=torch.manual_seed(1), dtype=torch.float64)
    expected = (images * smoothed(images, levels)).flatten(1).sum(1)
    torch.testing.assert_close(smoothed_squares(images, levels), expected)


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (11, 5)])
def test_smoothed_is_symmetric_and_positive_definite(size: tuple[int, int]) -> None:
    """No blur lengthens anything, and each only adds; but all of them together ..."""
    pixels = math.prod(size)
    units = torch.eye(pixels, dtype=torch.float64).view(pixels, 1, *size)
    matrix = smoothed(units, 4).view(pixels, pixels)
    torch.testing.assert_close(matrix, matrix.mT, rtol=0, atol=1e-12)
    curvatures = torch.linalg.eigvalsh(matrix)
    assert curvatures.min() >= 1 - 1e-12
    assert curvatures.max() <= 5
    assert curvatures.max() > 1.5  # ... are not nothing


def test_smoothed_treats_each_channel_and_image_alike() -> None:
    images = torch.randn((2, 3, 9, 12), generator=torch.manual_seed(2), dtype=torch.float64)
    together = smoothed(images, 4)
    for b in range(2):
        for c in range(3):
            alone = smoothed(images[b : b + 1, c : c + 1], 4)[0, 0]
            torch.testing.assert_close(together[b, c], alone)
