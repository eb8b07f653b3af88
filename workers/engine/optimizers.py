"""Two ways to move images down their gradients, one evaluation to a move.

An optimiser is the memory of one image. Images of one size are moved together, whatever is
remembered of each, and nothing here waits for the device. An optimiser knows no bounds: the caller
may project what it gives, because displacements are read from the images that are shown.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from workers.engine.octaves import dots, smooth, smoothed_squares

OptimizerName = Literal["lbfgs", "adam"]

CURVATURE_MIN = 1e-10  # the cosine between s and y below which a pair is noise
TINY = 1e-30  # keeps a gradient of zeros from being divided by zero


class Look(NamedTuple):
    """Images and the gradients there, (B, 3, H, W) each, any float dtype and device."""

    images: Tensor
    gradients: Tensor

    @staticmethod
    def of(looks: "Collection[Look]") -> "Look":
        """A batch of them; one alone is that itself."""
        return Look(*(stacked(each) for each in zip(*looks, strict=True)))

    def split(self) -> "list[Look]":
        """Of each image alone, (1, 3, H, W)."""
        return [Look(*each) for each in zip(*(torch.split(x, 1) for x in self), strict=True)]


class Optimizer(ABC):
    """What is remembered of one image's way, and can be carried to another process."""

    @staticmethod
    @abstractmethod
    def see(optimizers: Sequence[Any], before: Sequence[Look | None], here: Look) -> None:
        """Remembers what a look at images tells, each in the optimiser at its place.

        optimizers: of one class. before: the last look at each image, B = 1; None at its start.
        No look is modified.
        """

    @staticmethod
    @abstractmethod
    def moved(optimizers: Sequence[Any], here: Look) -> Tensor:
        """The next images, (B, 3, H, W), after `see` of `here`. Changes nothing."""

    @abstractmethod
    def growth_bytes(self, image: Tensor) -> int:
        """How much more its state will take in later steps of such an image."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on, beside the last look. Later steps do not touch it."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on exactly where `state` was taken: in float32 on the CPU, to the bit."""


class Lbfgs(Optimizer):
    """Limited-memory BFGS, preconditioned: the full step, up to a limit, and no line search.

    learning_rate: factor on every step.
    history: how many displacements are remembered; each costs two images. One over which the loss
    curved downwards would turn a step uphill: it keeps its place, and counts for nothing.
    first_step: mean size of the displacement while no curvature is known.
    longest_step: mean size that no displacement exceeds. Without it the full step overshoots where
    little curvature is known yet: from noise to stripes at 64 px, max pooling, 20 iterations
    brought the loss to 1/8 with it, and to nearly twice the start without.
    levels: of `smooth`, with which the inverse Hessian begins; 0 for the plain identity.
    Those that are moved together may differ in the learning rate alone.
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
        self._count = 0  # displacements seen so far; the newest in row (count - 1) % history
        # (history, n), as soon as there is one: how the image moved, how the gradient changed then.
        self._s = self._y = torch.empty(0)
        self._curvature: _Curvature | None = None

    @staticmethod
    def see(optimizers: Sequence["Lbfgs"], before: Sequence[Look | None], here: Look) -> None:
        chosen = [one for one, last in zip(optimizers, before, strict=True) if last]
        if not chosen:
            return
        # The oldest is forgotten before its place is taken: should what follows fail, all is well.
        curvature = _Curvature.of(chosen, here.images).shifted()
        for one, own in zip(chosen, curvature.split(), strict=True):
            one._count += 1
            one._curvature = own
        pairs = [
            one._write(last, now)
            for one, last, now in zip(optimizers, before, here.split(), strict=True)
            if last
        ]
        s, y = (stacked(images) for images in zip(*pairs, strict=True))
        along = dots(s, y)
        is_curved = along > CURVATURE_MIN * dots(s, s).sqrt() * dots(y, y).sqrt()
        # Of older y with the newest s nobody asks: the two systems are triangular.
        products = [one._products(one._s, each) for one, each in zip(chosen, y, strict=True)]
        scale = along / smoothed_squares(y, chosen[0]._levels)
        curvature.learn(is_curved, torch.stack(products), scale)

    @staticmethod
    def moved(optimizers: Sequence["Lbfgs"], here: Look) -> Tensor:
        curvature = _Curvature.of(optimizers, here.images)
        steps = Lbfgs._directions(optimizers, curvature, here.gradients)
        steps.mul_(_column([one._learning_rate for one in optimizers], steps))
        limits = optimizers[0]._longest_step / _mean_sizes(steps).clamp_min(TINY)
        steps.mul_(limits.clamp_max(1))
        return torch.sub(here.images, steps, out=steps)

    @staticmethod
    def _directions(
        optimizers: Sequence["Lbfgs"], curvature: "_Curvature", gradients: Tensor
    ) -> Tensor:
        """The inverse Hessians, as far as they are known, times the gradients: a new tensor.

        Each image's history is multiplied by itself: that is the same work for a device, nothing
        is moved when renders come or go, and bits do not depend on company.
        """
        first = optimizers[0]
        steps = gradients.clone()
        products = [
            one._products(one._s, step) for one, step in zip(optimizers, steps, strict=True)
        ]
        a = curvature.solved(torch.stack(products), is_upper=True)
        for one, step, factors in zip(optimizers, steps, a, strict=True):
            one._add(one._y, -factors, step)
        smooth(steps, first._levels)
        guess = first._first_step / _mean_sizes(steps).clamp_min(TINY)
        steps.mul_(torch.where(curvature.is_known, curvature.scale, guess))
        products = [
            one._products(one._y, step) for one, step in zip(optimizers, steps, strict=True)
        ]
        b = curvature.sy.diagonal(dim1=1, dim2=2) * a - torch.stack(products)
        c = curvature.solved(b, is_upper=False)
        for one, step, factors in zip(optimizers, steps, c, strict=True):
            one._add(one._s, factors, step)
        return steps

    def growth_bytes(self, image: Tensor) -> int:
        return 2 * max(0, self._history - self._count) * image.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        if self._curvature is None:
            return {}
        pairs = {"s": self._s[self._written].clone(), "y": self._y[self._written].clone()}
        return pairs | self._curvature._asdict() | {"count": torch.tensor(self._count)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._count = int(state["count"]) if state else 0
        self._curvature = None
        if state:
            self._curvature = _Curvature(*(state[name] for name in _Curvature._fields))
            rows, n = state["s"].shape
            self._s, self._y = (state["s"].new_empty((self._history, n)) for _ in "sy")
            self._s[:rows], self._y[:rows] = state["s"], state["y"]

    @property
    def _written(self) -> slice:
        return slice(min(self._count, self._history))

    def _write(self, last: Look, here: Look) -> Look:
        """How image and gradient changed, (1, 3, H, W) each, in the newest row."""
        if self._count == 1:
            shape = self._history, here.images.numel()  # a row takes memory once it is written
            self._s, self._y = (here.images.new_empty(shape) for _ in "sy")
        row = (self._count - 1) % self._history
        s, y = (rows[row].view_as(here.images) for rows in (self._s, self._y))
        torch.sub(here.images, last.images, out=s)
        torch.sub(here.gradients, last.gradients, out=y)
        return Look(s, y)

    def _products(self, rows: Tensor, image: Tensor) -> Tensor:
        """The dot products of `_s` or `_y` with an image, (history,), the oldest row first."""
        products = image.new_zeros(self._history)
        if self._count:
            torch.mv(rows[self._written], image.flatten(), out=products[self._written])
        return products.roll(-self._count)

    def _add(self, rows: Tensor, factors: Tensor, image: Tensor) -> None:
        """Adds rows of `_s` or `_y`, each with its factor, (history,), to a contiguous image."""
        if self._count:
            factors = factors.roll(self._count)[self._written].to(image.dtype)
            image.view(-1).addmv_(rows[self._written].mT, factors)


class _Curvature(NamedTuple):
    """The few numbers between the displacements of one image, or of some, (B, ...).

    curved: (history,), the oldest first: 1 where the loss curved upwards, else 0, as at first.
    sy: (history, history), dot products, the triangle in which y is not older than s. Where nothing
    curved upwards it has a row and a column of the identity.
    scale: (1, 1, 1), of the first guess, which makes it right along the newest.
    """

    curved: Tensor
    sy: Tensor
    scale: Tensor

    @staticmethod
    def of(optimizers: Sequence[Lbfgs], like: Tensor) -> "_Curvature":
        """What is known of each, stacked."""
        known = [o._curvature or _Curvature._unknown(o._history, like) for o in optimizers]
        return _Curvature(*(torch.stack(numbers) for numbers in zip(*known, strict=True)))

    @staticmethod
    def _unknown(history: int, like: Tensor) -> "_Curvature":
        # In float64 where there is: errors of these few numbers would add up.
        exact = torch.float32 if like.device.type == "mps" else torch.float64
        curved = torch.zeros(history, dtype=exact, device=like.device)
        sy = torch.eye(history, dtype=exact, device=like.device)
        return _Curvature(curved, sy, like.new_zeros((1, 1, 1)))

    def split(self) -> "list[_Curvature]":
        """Of each image; what is learned afterwards is seen there, too."""
        return [_Curvature(*numbers) for numbers in zip(*self, strict=True)]

    def shifted(self) -> "_Curvature":
        """With a place for a newest displacement, and without the oldest: a copy."""
        curved = functional.pad(self.curved[:, 1:], (0, 1))
        sy = functional.pad(self.sy[:, 1:, 1:], (0, 1, 0, 1))
        sy[:, -1, -1] = 1
        return _Curvature(curved, sy, self.scale.clone())

    def learn(self, is_curved: Tensor, products: Tensor, scale: Tensor) -> None:
        """Of the newest displacements: (B,), dot products of its y with each s, (B,)."""
        kept = is_curved.to(self.curved.dtype)
        self.curved[:, -1] = kept
        self.sy[:, :, -1] = products * self.curved * kept[:, None]
        self.sy[:, -1, -1] += 1 - kept
        self.scale.copy_(torch.where(is_curved, scale, self.scale.flatten()).view_as(self.scale))

    @property
    def is_known(self) -> Tensor:
        """Whether anything curved upwards, (B, 1, 1, 1)."""
        return self.curved.any(1).view_as(self.scale)

    def solved(self, products: Tensor, *, is_upper: bool) -> Tensor:
        """(B, history), of `sy` or of its transpose; 0 where nothing curved upwards."""
        matrix = self.sy if is_upper else self.sy.mT
        right = (products * self.curved).unsqueeze(-1)
        found: Tensor = torch.linalg.solve_triangular(matrix, right, upper=is_upper)
        return found.squeeze(-1)


class Adam(Optimizer):
    """Adam: each value moves by about the learning rate, in the image's units.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        self._learning_rate = learning_rate
        self._betas = betas
        self._looks = 0
        self._moments: tuple[Tensor, ...] = ()  # means of the gradient and of its square

    @staticmethod
    def see(optimizers: Sequence["Adam"], _before: Sequence[Look | None], here: Look) -> None:
        gradients = torch.split(here.gradients, 1)
        for one in optimizers:
            one._looks += 1
            one._moments = one._moments or tuple(torch.zeros_like(gradients[0]) for _ in "12")
        firsts, seconds = zip(*(one._moments for one in optimizers), strict=True)
        first, second = optimizers[0]._betas
        # In place and all at once, as torch's own Adam does it; a GPU gets one call for each.
        torch._foreach_lerp_(firsts, gradients, 1 - first)
        torch._foreach_mul_(seconds, second)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1 - second)

    @staticmethod
    def moved(optimizers: Sequence["Adam"], here: Look) -> Tensor:
        firsts, seconds = map(stacked, zip(*(one._moments for one in optimizers), strict=True))
        factors, shares = [], []  # both moments began at 0: after few looks they are too small
        for one in optimizers:
            first, second = (1 - beta**one._looks for beta in one._betas)
            factors.append(one._learning_rate / first)
            shares.append(second)
        sizes = (seconds / _column(shares, seconds)).sqrt_().add_(TINY)
        steps = (firsts * _column(factors, firsts)).div_(sizes)
        return torch.sub(here.images, steps, out=steps)

    def growth_bytes(self, image: Tensor) -> int:
        return 0 if self._moments else 2 * image.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        if not self._moments:
            return {}
        first, second = (moment.clone() for moment in self._moments)
        return {"looks": torch.tensor(self._looks), "first": first, "second": second}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._looks = int(state["looks"]) if state else 0
        self._moments = (state["first"].clone(), state["second"].clone()) if state else ()


def stacked(images: Sequence[Tensor]) -> Tensor:
    """A batch of images; one alone is that itself."""
    return images[0] if len(images) == 1 else torch.cat(tuple(images))


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    """(B, 1, 1, 1), written by the device: a copy from the host would be waited for."""
    return torch.stack([like.new_full((1, 1, 1), value) for value in values])


def _mean_sizes(images: Tensor) -> Tensor:
    """The mean absolute value of each image, (B, 1, 1, 1); on a CPU one by one, as in `dots`."""
    each = [images] if images.device.type != "cpu" else torch.split(images, 1)
    sums = [torch.linalg.vector_norm(some, 1, dim=(1, 2, 3), keepdim=True) for some in each]
    return torch.cat(sums) / images[0].numel()
