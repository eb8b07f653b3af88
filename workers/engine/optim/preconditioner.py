"""Images and their blurred copies, one for each octave: what L-BFGS begins from."""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from ..device.alignment import dot
from ..device.cudnn import cudnn
from ..device.graphs import parallel_streams

SIDE_MIN = 4  # px; a smaller image is left as it is


def smooth(images: Tensor, levels: int) -> None:
    """Adds to images, (B, 3, H, W), their blurred copies, one for each octave, in place.

    Symmetric and positive definite: each blur is 4 H' H, where H halves an image's size. As the
    first guess of the inverse Hessian it lets large patches of colour move before their pixels do:
    the Gram loss is flattest along them.
    """
    if levels and min(images.shape[-2:]) >= SIDE_MIN:
        halved = _halved(images)
        smooth(halved, levels - 1)
        _add_enlarged(halved, images)


def smoothed_squares(images: Tensor, levels: int) -> Tensor:
    """The dot product of each image and what `smooth` makes of it, (B,).

    With one half of the work: where a blur is 4 H' H, the product is four times the square of H.
    """
    squares = dots(images, images)
    if levels == 0 or min(images.shape[-2:]) < SIDE_MIN:
        return squares
    return squares + 4 * smoothed_squares(_halved(images), levels - 1)


def dots(a: Tensor, b: Tensor) -> Tensor:
    """The dot product of each image of a with that of b, (B,).

    One after the other: a sum's last bits would depend on what else is added up beside it.
    """
    pairs = zip(a.flatten(1), b.flatten(1), strict=True)
    return torch.stack([dot(*pair) for pair in parallel_streams(pairs, a.device)])


def _halved(image: Tensor) -> Tensor:
    """At half the size, rounded down: weights 1, 3, 3, 1 of 8 along each side, zeros beyond it."""
    if image.device.type == "cpu":
        return _halved_by_slices(image)
    channels = image.shape[1]
    kernels = _tent(image.device, image.dtype).expand(channels, 1, -1, -1)
    with cudnn(image.dtype):
        return functional.conv2d(image, kernels, stride=2, padding=1, groups=channels)


def _add_enlarged(image: Tensor, out: Tensor) -> None:
    """Bilinear, zeros beyond: four times what is adjoint to `_halved`."""
    if image.device.type == "cpu":
        _add_enlarged_by_slices(image, out)
        return
    height, width = out.shape[-2:]
    padded = functional.pad(image, (1, 1, 1, 1))
    enlarged = functional.interpolate(padded, scale_factor=2, mode="bilinear")
    out += enlarged[..., 2 : 2 + height, 2 : 2 + width]


@cache
def _tent(device: torch.device, dtype: torch.dtype) -> Tensor:
    weights = torch.full((4,), 1 / 8, dtype=dtype, device=device)
    weights[1:3] = 3 / 8
    return torch.outer(weights, weights)


def _halved_by_slices(image: Tensor) -> Tensor:
    """Since oneDNN spreads one channel over sixteen before it convolves it."""
    for dim in (-2, -1):
        even, odd = _halves(image, dim)
        count = odd.shape[dim]
        image = (even.narrow(dim, 0, count) + odd).mul_(3 / 8)
        image.narrow(dim, 1, count - 1).add_(odd.narrow(dim, 0, count - 1), alpha=1 / 8)
        count = even.shape[dim] - 1
        image.narrow(dim, 0, count).add_(even.narrow(dim, 1, count), alpha=1 / 8)
    return image


def _add_enlarged_by_slices(image: Tensor, out: Tensor) -> None:
    wide = image.new_zeros((*image.shape[:-1], out.shape[-1]))
    for x, larger, dim in ((image, wide, -1), (wide, out, -2)):
        even, odd = _halves(larger, dim)
        count, more = x.shape[dim], even.shape[dim] - 1
        odd.add_(x, alpha=3 / 4)
        odd.narrow(dim, 0, count - 1).add_(x.narrow(dim, 1, count - 1), alpha=1 / 4)
        even.narrow(dim, 0, count).add_(x, alpha=3 / 4)
        even.narrow(dim, 1, more).add_(x.narrow(dim, 0, more), alpha=1 / 4)


def _halves(image: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Every other row or column, from the first and from the second on, as views."""
    if dim == -1:
        return image[..., ::2], image[..., 1::2]
    return image[..., ::2, :], image[..., 1::2, :]
