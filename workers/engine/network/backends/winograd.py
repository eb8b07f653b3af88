"""3 x 3 convolutions with a quarter of the multiplications, and their exact adjoints.

Winograd's minimal filtering turns each window of the input, each kernel and each tile of the output
into another basis, in which a convolution is one matrix product for each coefficient. oneDNN, which
convolves for torch on CPUs, has dropped its own; cuDNN chooses one by itself.
Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...device.arena import Arena
from ..convolution import KERNEL, Convolution, OutputAllocator

# Where polynomials are evaluated, beside infinity: small, so that float32 keeps its digits. The
# error is 5 (tile 2: 1) times that of a direct convolution, about 1e-6 of the result.
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 2.0, -2.0)}
# Coefficients of a band of tiles, in and out: less is spent on calls, more falls out of the caches.
BAND_BYTES = 6 * 2**20


class Transforms(NamedTuple):
    """The three linear maps of one tile size, in one dimension; float64.

    y = output @ ((kernel @ g) * (input @ d)) is the correlation of d (n,) with g (3,), y (n - 2,).
    """

    input: Tensor  # (n, n)
    kernel: Tensor  # (n, 3)
    output: Tensor  # (n - 2, n)


def transforms(tile: int) -> Transforms:
    """The Cook-Toom construction for tiles of `tile` outputs, n = tile + 2.

    Source: Blahut 2010, "Fast Algorithms for Signal Processing", chapter 5, transposed.
    """
    points = torch.tensor(POINTS[tile], dtype=torch.float64)
    n = tile + KERNEL - 1
    output = torch.zeros(tile, n, dtype=torch.float64)
    kernel = torch.zeros(n, KERNEL, dtype=torch.float64)
    signal = torch.zeros(n, n, dtype=torch.float64)
    for i, point in enumerate(points):
        others = torch.cat((points[:i], points[i + 1 :]))
        output[:, i] = point ** torch.arange(tile)
        kernel[i] = point ** torch.arange(KERNEL) / math.prod((point - others).tolist())
        signal[i, : n - 1] = _polynomial(others)
    output[-1, -1] = kernel[-1, -1] = 1  # the point at infinity
    signal[-1] = _polynomial(points)
    return Transforms(signal, kernel, output)


class Winograd(Convolution):
    """A convolution on the CPU in float32.

    weight: (C', C, 3, 3). bias: (C',). tile: 2 or 4 outputs a side.
    Images never share a matrix product, so that a render's bits do not depend on its batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor, tile: int, arena: Arena) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self._arena = arena
        self._bias = bias
        self._tile, self._window = tile, tile + KERNEL - 1
        signal, kernel, output = transforms(tile)
        self._signal = torch.kron(signal, signal).float()  # (n^2, n^2), for windows read row by row
        self._output = torch.kron(output, output).float()  # (tile^2, n^2)
        self._kernel = _coefficients(weight, kernel)  # (n^2, C, C')
        # The coefficient that all outputs of a tile read with factor 1: the bias enters there.
        (both, *_) = (output == 1).all(0).nonzero().flatten().tolist()
        self._shared = both * self._window + both

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        side, n = self._tile, self._window
        out = place()
        for b in range(len(x)):
            for band in self._bands(*x.shape[1:3]):
                signal = self._take("signal", n * n, band.tiles * self.inputs)
                windows = _windows(self._padded(x[b], band), side, n)
                signal.view(windows.shape).copy_(windows)
                spectrum = self._take("spectrum", n * n, band.tiles * self.inputs)
                torch.mm(self._signal, signal, out=spectrum)
                product = self._take("product", n * n, band.tiles, self.outputs)
                torch.bmm(spectrum.view(n * n, band.tiles, -1), self._kernel, out=product)
                product[self._shared].add_(self._bias)
                result = self._take("result", side * side, band.tiles * self.outputs)
                torch.mm(self._output, product.view(n * n, -1), out=result)
                _untiled(result, band, side, out[b])
        return out

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        side, n = self._tile, self._window
        out = place()
        for b in range(len(gradient)):
            for band in self._bands(*gradient.shape[1:3]):
                tiles = _tiles(self._covered(gradient[b], band), side)
                result = self._take("result", side * side, band.tiles * self.outputs)
                result.view(tiles.shape).copy_(tiles)
                product = self._take("product", n * n, band.tiles, self.outputs)
                torch.mm(self._output.T, result, out=product.view(n * n, -1))
                spectrum = self._take("spectrum", n * n, band.tiles, self.inputs)
                torch.bmm(product, self._kernel.mT, out=spectrum)
                signal = self._take("signal", n * n, band.tiles * self.inputs)
                torch.mm(self._signal.T, spectrum.view(n * n, -1), out=signal)
                self._scatter(signal, band, out[b])
        return out

    def _bands(self, height: int, width: int) -> list["_Band"]:
        down, across = -(-height // self._tile), -(-width // self._tile)
        row_bytes = 4 * self._window**2 * across * (self.inputs + self.outputs)
        count = -(-down // max(1, BAND_BYTES // row_bytes))
        rows = -(-down // count)
        return [
            _Band(first, min(rows, down - first), across, self._tile)
            for first in range(0, down, rows)
        ]

    def _padded(self, x: Tensor, band: "_Band") -> Tensor:
        """What the windows of a band see: its rows, and zeros around the image. (rows, W, C)."""
        _, width, channels = x.shape
        rows, columns = band.rows + 2, band.columns + 2
        padded = self._take("padded", rows, columns, channels)
        above = 1 if band.top == 0 else 0
        seen = x[band.top - 1 + above : band.top + band.rows + 1]
        below = above + len(seen)
        padded[:above].zero_()
        padded[below:].zero_()
        padded[above:below, :1].zero_()
        padded[above:below, 1 + width :].zero_()
        padded[above:below, 1 : 1 + width].copy_(seen)
        return padded

    def _covered(self, gradient: Tensor, band: "_Band") -> Tensor:
        """The band's gradient, and zeros around it, in whole tiles. (rows, columns, C')."""
        height, width, channels = gradient.shape
        tiled = self._take("padded", band.rows, band.columns, channels)
        rows = min(band.rows, height - band.top)
        tiled[rows:].zero_()
        tiled[:rows, width:].zero_()
        tiled[:rows, :width].copy_(gradient[band.top : band.top + rows])
        return tiled

    def _scatter(self, signal: Tensor, band: "_Band", out: Tensor) -> None:
        """Adds up windows that overlap; the last two rows wait for the next band's first."""
        height, width, channels = out.shape
        side, n = self._tile, self._window
        rows, columns = band.rows + 2, band.columns + 2
        summed = self._take("summed", rows, columns, channels)
        carried = self._take("carried", 2, columns, channels)
        if band.top == 0:
            summed[:2].zero_()
        else:
            summed[:2].copy_(carried)
        summed[2:].zero_()
        windows = _windows(summed, side, n)
        parts = signal.view(windows.shape)
        for down in (slice(0, side), slice(side, n)):  # each part alone does not overlap
            for across in (slice(0, side), slice(side, n)):
                windows[down, across].add_(parts[down, across])
        carried.copy_(summed[-2:])
        first = max(0, band.top - 1)  # row 0 of `summed` lies one above the band
        last = height if band.top + band.rows >= height else band.top + band.rows - 1
        out[first:last] = summed[first - band.top + 1 : last - band.top + 1, 1 : 1 + width]

    def _take(self, name: str, *shape: int) -> Tensor:
        return self._arena.take(f"winograd {name}", shape)


def _coefficients(weight: Tensor, kernel: Tensor) -> Tensor:
    """The kernels in the other basis, (n^2, C, C'): computed in float64, a few at a time."""
    outputs, inputs, _, _ = weight.shape
    found = weight.new_empty(len(kernel), len(kernel), inputs, outputs)
    for first in range(0, outputs, 64):
        some = slice(first, first + 64)
        few = weight[some].double()
        found[..., some] = torch.einsum("ik,jl,ockl->ijco", kernel, kernel, few).float()
    return found.flatten(0, 1)


class _Band(NamedTuple):
    """Some rows of tiles of one image."""

    first: int
    down: int  # rows of tiles
    across: int  # tiles in a row
    side: int

    @property
    def tiles(self) -> int:
        return self.down * self.across

    @property
    def top(self) -> int:
        return self.first * self.side

    @property
    def rows(self) -> int:
        return self.down * self.side

    @property
    def columns(self) -> int:
        return self.across * self.side


def _windows(padded: Tensor, side: int, n: int) -> Tensor:
    """(n, n, tiles down, tiles across, C): n x n windows, `side` apart, as a view."""
    rows, columns, channels = padded.shape
    down, across = padded.stride(0), padded.stride(1)
    shape = (n, n, (rows - 2) // side, (columns - 2) // side, channels)
    return padded.as_strided(shape, (down, across, side * down, side * across, 1))


def _tiles(image: Tensor, side: int) -> Tensor:
    """(side, side, tiles down, tiles across, C) of an image of whole tiles, as a view."""
    rows, columns, channels = image.shape
    tiled = image.view(rows // side, side, columns // side, side, channels)
    return tiled.permute(1, 3, 0, 2, 4)


def _untiled(result: Tensor, band: _Band, side: int, out: Tensor) -> None:
    """The ReLU of a band's tiles, into the image's rows."""
    height, width, channels = out.shape
    tiles = result.view(side, side, band.down, band.across, channels)
    rows = min(band.rows, height - band.top)
    inside = out[band.top : band.top + rows]
    if (rows, width) == (band.rows, band.columns):
        torch.clamp_min(tiles, 0, out=_tiles(inside, side))
    else:
        flat = tiles.permute(2, 0, 3, 1, 4).reshape(band.rows, band.columns, channels)
        torch.clamp_min(flat[:rows, :width], 0, out=inside)


def _polynomial(roots: Tensor) -> Tensor:
    """The coefficients of the product of (x - root), the lowest first."""
    coefficients = torch.ones(1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    for root in roots:
        coefficients = torch.cat((zero, coefficients)) - root * torch.cat((coefficients, zero))
    return coefficients
