"""Two ways to move an image down its gradient, one evaluation to a step.

An optimiser is shown an image and its gradient and gives the next image. It knows no bounds: the
caller may project what it gives, because displacements are read from the images that are shown.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

OptimizerName = Literal["lbfgs", "adam"]

CURVATURE_MIN = 1e-10  # the cosine between s and y below which a pair is noise
SMOOTHED_SIDE_MIN = 4  # px; a smaller image is left as it is
TINY = 1e-30  # keeps a gradient of zeros from being divided by zero


class Optimizer(ABC):
    """State that grows with each step, and that can be carried to another process."""

    @abstractmethod
    def step(self, image: Tensor, gradient: Tensor) -> Tensor:
        """The next image. Both: one shape, any float dtype and device; neither is modified."""

    @abstractmethod
    def growth_bytes(self, image: Tensor) -> int:
        """How much more its state will take in later steps of such an image."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on. Later steps do not touch these tensors."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on exactly where `state` was taken: in float32 on the CPU, to the bit."""


class Lbfgs(Optimizer):
    """Limited-memory BFGS, preconditioned: the full step, up to a limit, and no line search.

    learning_rate: factor on every step.
    history: how many displacements are remembered; each costs two images.
    first_step: mean size of the displacement while no curvature is known.
    longest_step: mean size that no displacement exceeds. Without it the full step overshoots where
    little curvature is known yet: from noise to stripes at 64 px, max pooling, 20 iterations
    brought the loss to 1/8 with it, and to nearly twice the start without.
    levels: of `smoothed`, with which the inverse Hessian begins; 0 for the plain identity.
    Source: Nocedal and Wright 2006, "Numerical Optimization", algorithm 7.4, whose two loops are
    two triangular systems: Byrd, Nocedal, Schnabel 1994, "Representations of quasi-Newton matrices
    and their use in limited memory methods", theorem 2.2. So a step is a few passes over the
    history, not four for each displacement in it.
    """

    def __init__(
        self,
        learning_rate: float = 1.0,
        *,
        history: int = 20,
        first_step: float = 10.0,
        longest_step: float = 10.0,
        levels: int = 4,
    ) -> None:
        self._learning_rate = learning_rate
        self._history = history
        self._first_step = first_step
        self._longest_step = longest_step
        self._levels = levels
        self._count = 0  # displacements remembered so far; the newest in row (count - 1) % history
        self._shown: tuple[Tensor, Tensor] | None = None  # the last image and its gradient
        self._s: Tensor  # (history, n): how the image moved
        self._y: Tensor  # (history, n): how the gradient changed over it
        self._sy: Tensor  # (history, history): their dot products
        self._scale: Tensor  # (): of the first guess, which makes it right along the newest

    def step(self, image: Tensor, gradient: Tensor) -> Tensor:
        if self._shown is not None:
            self._remember(image - self._shown[0], gradient - self._shown[1])
        self._shown = image, gradient
        step = self._direction(gradient).mul_(self._learning_rate)
        limit = self._longest_step / _mean_size(step).clamp_min(TINY)
        step.mul_(limit.clamp_max(1))
        return torch.sub(image, step, out=step)

    def growth_bytes(self, image: Tensor) -> int:
        return 2 * max(0, self._history - self._count) * image.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        state = {}
        if self._shown is not None:
            state["image"], state["gradient"] = self._shown
        if self._count:
            written = slice(min(self._count, self._history))
            state |= {"s": self._s[written].clone(), "y": self._y[written].clone()}
            state |= {"sy": self._sy.clone(), "scale": self._scale}
            state["count"] = torch.tensor(self._count)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._shown = (state["image"], state["gradient"]) if "image" in state else None
        self._count = int(state["count"]) if "count" in state else 0
        if self._count:
            rows, n = state["s"].shape
            self._s, self._y = (state["s"].new_empty((self._history, n)) for _ in "sy")
            self._s[:rows], self._y[:rows] = state["s"], state["y"]
            self._sy, self._scale = state["sy"].clone(), state["scale"]

    def _remember(self, s: Tensor, y: Tensor) -> None:
        """Keeps a pair along which the loss curves upwards; others would turn a step uphill."""
        along = _dot(s, y)
        if along <= CURVATURE_MIN * s.norm() * y.norm():
            return
        if self._count == 0:
            shape = self._history, s.numel()  # a row takes memory once it is written
            self._s, self._y = s.new_empty(shape), s.new_empty(shape)
            self._sy = torch.eye(self._history, dtype=_exact(s.device), device=s.device)
        row = self._count % self._history
        self._s[row], self._y[row] = s.flatten(), y.flatten()
        written = slice(min(self._count + 1, self._history))
        # Of older y with the newest s nobody asks: the two systems are triangular.
        self._sy[written, row] = (self._s[written] @ y.flatten()).to(self._sy.dtype)
        self._scale = along / smoothed_square(y, self._levels)
        self._count += 1

    def _direction(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian, as far as it is remembered, times the gradient: a new tensor."""
        if self._count == 0:
            direction = smoothed(gradient, self._levels)
            return direction * (self._first_step / _mean_size(direction).clamp_min(TINY))
        rows = min(self._count, self._history)
        order = [(self._count - rows + i) % self._history for i in range(rows)]  # the oldest first
        s, y = self._s[:rows], self._y[:rows]
        upper = self._sy[order][:, order].triu()

        g = gradient.flatten()
        a = _solved(upper, _chosen(s @ g, order, upper.dtype), upper=True)
        q = torch.addmv(g, y.mT, _placed(a, order, g), alpha=-1)
        r = smoothed(q.view_as(gradient), self._levels).flatten().mul_(self._scale)
        b = upper.diagonal() * a - _chosen(y @ r, order, upper.dtype)
        r.addmv_(s.mT, _placed(_solved(upper.mT, b, upper=False), order, g))
        return r.view_as(gradient)


def smoothed(image: Tensor, levels: int) -> Tensor:
    """The image and its blurred copies, one for each octave, added up.

    image: (1, 3, H, W). Symmetric and positive definite: each blur is 4 H' H, where H
    halves an image's size. As the first guess of the inverse Hessian it lets large patches of
    colour move before their pixels do: the Gram loss is flattest along them.
    """
    if levels == 0 or min(image.shape[-2:]) < SMOOTHED_SIDE_MIN:
        return image
    height, width = image.shape[-2:]
    return _enlarged(smoothed(_halved(image), levels - 1), height, width).add_(image)


def smoothed_square(image: Tensor, levels: int) -> Tensor:
    """The dot product of an image and its `smoothed`, ().

    With one half of the work: where a blur is 4 H' H, the product is four times the square of H.
    """
    square = _dot(image, image)
    if levels == 0 or min(image.shape[-2:]) < SMOOTHED_SIDE_MIN:
        return square
    return square + 4 * smoothed_square(_halved(image), levels - 1)


def _halved(image: Tensor) -> Tensor:
    """At half the size, rounded down: weights 1, 3, 3, 1 of 8 along each side, zeros beyond it.

    By slices, since oneDNN spreads one channel over sixteen before it convolves it.
    """
    for dim in (-2, -1):
        even, odd = _halves(image, dim)
        count = odd.shape[dim]
        image = (even.narrow(dim, 0, count) + odd).mul_(3 / 8)
        image.narrow(dim, 1, count - 1).add_(odd.narrow(dim, 0, count - 1), alpha=1 / 8)
        count = even.shape[dim] - 1
        image.narrow(dim, 0, count).add_(even.narrow(dim, 1, count), alpha=1 / 8)
    return image


def _enlarged(image: Tensor, height: int, width: int) -> Tensor:
    """Of that size, bilinear, zeros beyond: four times what is adjoint to `_halved`."""
    for dim in (-1, -2):
        count = image.shape[dim]
        shape = (height, width) if dim == -2 else (image.shape[-2], width)
        larger = image.new_zeros((*image.shape[:-2], *shape))
        even, odd = _halves(larger, dim)
        torch.mul(image, 3 / 4, out=odd)
        even.narrow(dim, 0, count).copy_(odd)
        odd.narrow(dim, 0, count - 1).add_(image.narrow(dim, 1, count - 1), alpha=1 / 4)
        more = even.shape[dim] - 1
        even.narrow(dim, 1, more).add_(image.narrow(dim, 0, more), alpha=1 / 4)
        image = larger
    return image


def _halves(image: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Every other row or column, from the first and from the second on, as views."""
    if dim == -1:
        return image[..., ::2], image[..., 1::2]
    return image[..., ::2, :], image[..., 1::2, :]


class Adam(Optimizer):
    """Adam: each value moves by about the learning rate, in the image's units.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        self._learning_rate = learning_rate
        self._betas = betas
        self._steps = 0
        self._moments: tuple[Tensor, Tensor] | None = None  # means of the gradient and its square

    def step(self, image: Tensor, gradient: Tensor) -> Tensor:
        if self._moments is None:
            self._moments = torch.zeros_like(image), torch.zeros_like(image)
        self._steps += 1
        self._moments = (
            torch.lerp(gradient, self._moments[0], self._betas[0]),
            torch.lerp(gradient.square(), self._moments[1], self._betas[1]),
        )
        first, second = (
            moment / (1 - beta**self._steps)  # both started at 0
            for moment, beta in zip(self._moments, self._betas, strict=True)
        )
        return image - self._learning_rate * first / (second.sqrt() + TINY)

    def growth_bytes(self, image: Tensor) -> int:
        return 2 * image.nbytes if self._moments is None else 0

    def state_dict(self) -> dict[str, Tensor]:
        if self._moments is None:
            return {}
        first, second = self._moments
        return {"steps": torch.tensor(self._steps), "first": first, "second": second}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._steps = int(state["steps"]) if state else 0
        self._moments = (state["first"], state["second"]) if state else None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


def _mean_size(x: Tensor) -> Tensor:
    total: Tensor = torch.linalg.vector_norm(x, 1)
    return total / x.numel()


def _exact(device: torch.device) -> torch.dtype:
    """For the few numbers between the dot products, which errors would add up in."""
    return torch.float32 if device.type == "mps" else torch.float64


def _solved(matrix: Tensor, b: Tensor, *, upper: bool) -> Tensor:
    found: Tensor = torch.linalg.solve_triangular(matrix, b.unsqueeze(-1), upper=upper)
    return found.squeeze(-1)


def _chosen(rows: Tensor, order: list[int], dtype: torch.dtype) -> Tensor:
    """Values of the history's rows, the oldest first."""
    return rows[order].to(dtype)


def _placed(values: Tensor, order: list[int], like: Tensor) -> Tensor:
    """Back from the oldest first to the history's rows."""
    rows = torch.empty_like(values)
    rows[order] = values
    return rows.to(like.dtype)
