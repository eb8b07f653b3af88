"""Sums whose order, and so whose last bits, do not depend on where in memory their terms lie.

A BLAS may begin a sum at the next boundary in memory. MKL does so in `dot`, `mv`, `addmv` and
`solve_triangular` on processors that are not Intel's, and in `addmv` wherever two threads share it.
An image of a batch lies where those before it end; one that is alone lies on a boundary. So what
BLAS is given here begins on one: the order then depends on sizes and the number of threads alone.
"""

import torch
from torch import Tensor

BOUNDARY_BYTES = 64  # a cache line, a register of AVX-512; torch's own tensors begin on one


def aligned(x: Tensor) -> Tensor:
    """x itself if it begins on a boundary, or is not in the host's memory; else a copy."""
    if x.device.type != "cpu" or x.data_ptr() % BOUNDARY_BYTES == 0:
        return x
    return x.clone()


def row_length(x: Tensor) -> int:
    """How far the rows of a matrix lie apart that have the values of x and begin on boundaries."""
    step = BOUNDARY_BYTES // x.itemsize
    return -(-x.numel() // step) * step


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The dot product of two vectors, ()."""
    return torch.dot(aligned(a), aligned(b))


def add_product(out: Tensor, matrix: Tensor, vector: Tensor) -> None:
    """Adds to a vector the product of a matrix, which begins on a boundary, and a vector."""
    whole = aligned(out)
    whole.addmv_(matrix, aligned(vector))
    if whole is not out:
        out.copy_(whole)
