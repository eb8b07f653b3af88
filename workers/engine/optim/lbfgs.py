"""L-BFGS for images: many of them at once, each with a history of its own."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..device import operators
from ..device.alignment import add_product, aligned, row_length
from ..device.graphs import StreamFork, parallel_streams
from .optimizers import SHORTENED, TINY, Evaluation, Optimizer, column, exact_dtype, stacked
from .preconditioner import dots, smooth, smoothed_squares

CURVATURE_MIN = 1e-10  # the cosine between s and y below which a pair is noise
REGAINED = 2  # times as long may be the one after a step that was not


class Lbfgs(Optimizer):
    """Limited-memory BFGS, preconditioned: the full step, up to a limit, and no line search.

    A step that raised the loss is taken back. The curvature along it is remembered as of any other,
    and the next one is at most a quarter as long; after each good one twice as much is allowed.

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

    is_monotone = True

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
        self._is_begun = False  # there was an evaluation, and so there is:
        self._pairs: _Pairs
        self._curvature: _Curvature

    @staticmethod
    def update(
        optimizers: Sequence["Lbfgs"],
        before: Sequence[Evaluation | None],
        here: Evaluation,
        is_worse: Sequence[Tensor],
    ) -> list[Tensor]:
        Lbfgs._begin(optimizers, here)
        goes_on = [~worse for worse in is_worse]
        chosen = [one for one, last in zip(optimizers, before, strict=True) if last]
        if not chosen:
            return goes_on
        # The oldest is forgotten before its place is taken: should what follows fail, all is well.
        curvature = _Curvature.of(chosen).shifted()
        curvature.keep(chosen)
        for one in chosen:
            one._pairs.advance()
        pairs = [
            one._pairs.write(last, now)
            for one, last, now in zip(optimizers, before, here.split(), strict=True)
            if last
        ]
        s, y = (stacked(images) for images in zip(*pairs, strict=True))
        with StreamFork(y.device) as beside:
            with beside.branch():
                along, ss, yy = dots(s, y), dots(s, s), dots(y, y)
            with beside.branch():
                squares = smoothed_squares(y, chosen[0]._levels)
            # Of older y with the newest s nobody asks: the two systems are triangular.
            products = Lbfgs._products(chosen, [one._pairs.s for one in chosen], y)
        is_curved = along > CURVATURE_MIN * ss.sqrt() * yy.sqrt()
        curvature.learn(is_curved, products, along / squares)
        worse = torch.stack([one for one, last in zip(is_worse, before, strict=True) if last])
        curvature.limit(worse, _mean_sizes(s), chosen[0]._longest_step)
        curvature.keep(chosen)
        return goes_on

    @staticmethod
    def step(optimizers: Sequence["Lbfgs"], here: Evaluation) -> Tensor:
        Lbfgs._begin(optimizers, here)
        curvature = _Curvature.of(optimizers)
        steps = Lbfgs._directions(optimizers, curvature, here.gradients)
        steps.mul_(column([one._learning_rate for one in optimizers], steps))
        limits = curvature.reach / _mean_sizes(steps).clamp_min(TINY)
        steps.mul_(limits.clamp_max(1))
        return torch.sub(here.images, steps, out=steps)

    @staticmethod
    def _begin(optimizers: Sequence["Lbfgs"], here: Evaluation) -> None:
        """Gives its memory to each that has none yet."""
        for one in optimizers:
            if not one._is_begun:
                one._pairs = _Pairs.none(one._history, here.images[:1])
                one._curvature = _Curvature.none(one._history, one._longest_step, here.images)
                one._is_begun = True

    @staticmethod
    def _directions(
        optimizers: Sequence["Lbfgs"], curvature: "_Curvature", gradients: Tensor
    ) -> Tensor:
        """The inverse Hessians, as far as they are known, times the gradients: a new tensor.

        Each image's history is multiplied by itself: that is the same work for a device, nothing
        is moved when renders come or go, and bits do not depend on the batch.
        """
        first = optimizers[0]
        steps = gradients.clone()
        s, y = zip(*((one._pairs.s, one._pairs.y) for one in optimizers), strict=True)
        a = curvature.solved(Lbfgs._products(optimizers, s, steps), is_upper=True)
        Lbfgs._add(optimizers, y, -a, steps)
        smooth(steps, first._levels)
        guess = first._first_step / _mean_sizes(steps).clamp_min(TINY)
        steps.mul_(torch.where(curvature.is_known, curvature.scale, guess))
        b = curvature.sy.diagonal(dim1=1, dim2=2) * a - Lbfgs._products(optimizers, y, steps)
        Lbfgs._add(optimizers, s, curvature.solved(b, is_upper=False), steps)
        return steps

    @staticmethod
    def _products(optimizers: Sequence["Lbfgs"], rows: Sequence[Tensor], images: Tensor) -> Tensor:
        """Of each image with its rows, (B, history), the oldest first."""
        each = parallel_streams(zip(optimizers, rows, images, strict=True), images.device)
        return torch.stack([one._pairs.products(its, image) for one, its, image in each])

    @staticmethod
    def _add(
        optimizers: Sequence["Lbfgs"], rows: Sequence[Tensor], factors: Tensor, images: Tensor
    ) -> None:
        """To each image its rows, each with its factor, (B, history), the oldest first."""
        each = zip(optimizers, rows, factors, images, strict=True)
        for one, its, some, image in parallel_streams(each, images.device):
            one._pairs.add(its, some, image)

    def growth_bytes(self, image: Tensor) -> int:
        left = self._pairs.left if self._is_begun else self._history
        return 2 * left * image.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        if not self._is_begun or not int(self._pairs.moves):
            return {}
        known = {name: numbers.clone() for name, numbers in self._curvature._asdict().items()}
        return self._pairs.state_dict() | known

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._is_begun = bool(state)
        if state:
            self._pairs = _Pairs.restored(self._history, state)
            known = (state[name].clone() for name in _Curvature._fields)
            self._curvature = _Curvature(*known)


class _Pairs(NamedTuple):
    """How an image moved and how the gradient changed then, for the last moves: one row for each.

    s, y: (history, n), each row from a boundary on: see `alignment`. On a CPU a row takes memory
    once it is written, and until then is left out; elsewhere it is zeros, and nobody waits to learn
    how many are written.
    moves: (), int64, so far. order: (history,), int64, the rows, that of the newest last.
    """

    s: Tensor
    y: Tensor
    moves: Tensor
    order: Tensor

    @staticmethod
    def none(history: int, image: Tensor) -> "_Pairs":
        make = torch.empty if image.device.type == "cpu" else torch.zeros
        shape, size = (history, row_length(image)), image.numel()
        s, y = (make(shape, dtype=image.dtype, device=image.device)[:, :size] for _ in "sy")
        numbers = torch.arange(history + 1, device=image.device)
        return _Pairs(s, y, numbers[0].clone(), numbers[:-1].clone())

    @staticmethod
    def restored(history: int, state: Mapping[str, Tensor]) -> "_Pairs":
        rows = len(state["s"])
        pairs = _Pairs.none(history, state["s"][:1])
        pairs.s[:rows], pairs.y[:rows] = state["s"], state["y"]
        pairs.moves.copy_(state["count"])
        pairs.order.add_(pairs.moves).remainder_(history)
        return pairs

    def state_dict(self) -> dict[str, Tensor]:
        written = slice(min(int(self.moves), len(self.s)))
        return {
            "s": self.s[written].clone(),
            "y": self.y[written].clone(),
            "count": self.moves.clone(),
        }

    @property
    def left(self) -> int:
        """How many rows will take more memory."""
        return 0 if self.s.device.type != "cpu" else max(0, len(self.s) - int(self.moves))

    def advance(self) -> None:
        """The oldest row is the newest from now on."""
        self.moves.add_(1)
        self.order.add_(1).remainder_(len(self.s))

    def write(self, last: Evaluation, here: Evaluation) -> Evaluation:
        """How image and gradient changed, (1, 3, H, W) each, in the newest row."""
        changes = []
        for rows, before, after in zip((self.s, self.y), last, here, strict=True):
            if rows.device.type == "cpu":
                change = torch.sub(after, before, out=rows[self.order[-1]].view_as(after))
            else:
                change = after - before
                rows.index_copy_(0, self.order[-1:], change.view(1, -1))
            changes.append(change)
        return Evaluation(*changes)

    def products(self, rows: Tensor, image: Tensor) -> Tensor:
        """The dot products of `s` or `y` with an image, (history,), the oldest row first."""
        products = torch.mv(rows[self._written], aligned(image.flatten()))
        if self.left:
            products = functional.pad(products, (0, self.left))
        return products[self.order]

    def add(self, rows: Tensor, factors: Tensor, image: Tensor) -> None:
        """Adds rows of `s` or `y`, each with its factor, (history,), to a contiguous image."""
        placed = image.new_empty(len(rows)).index_copy_(0, self.order, factors.to(image.dtype))
        add_product(image.view(-1), rows[self._written].mT, placed[self._written])

    @property
    def _written(self) -> slice:
        return slice(len(self.s) - self.left)


class _Curvature(NamedTuple):
    """The few numbers between the displacements of one image, or of some, (B, ...).

    curved: (history,), the oldest first: 1 where the loss curved upwards, else 0, as at first.
    sy: (history, history), dot products, the triangle in which y is not older than s. Where nothing
    curved upwards it has a row and a column of the identity.
    scale: (1, 1, 1), of the first guess, which makes it right along the newest.
    reach: (1, 1, 1), the mean size that no displacement exceeds for now.
    """

    curved: Tensor
    sy: Tensor
    scale: Tensor
    reach: Tensor

    @staticmethod
    def none(history: int, longest_step: float, like: Tensor) -> "_Curvature":
        exact = exact_dtype(like)  # errors of these few numbers would add up
        curved = torch.zeros(history, dtype=exact, device=like.device)
        sy = torch.eye(history, dtype=exact, device=like.device)
        one = like.new_ones((1, 1, 1))
        return _Curvature(curved, sy, 0 * one, longest_step * one)

    @staticmethod
    def of(optimizers: Sequence[Lbfgs]) -> "_Curvature":
        """What is known of each, stacked."""
        known = [one._curvature for one in optimizers]
        return _Curvature(*(torch.stack(numbers) for numbers in zip(*known, strict=True)))

    def keep(self, optimizers: Sequence[Lbfgs]) -> None:
        """Writes to each what is its own."""
        for whole, *own in zip(self, *(one._curvature for one in optimizers), strict=True):
            operators.copy(own, list(whole))

    def shifted(self) -> "_Curvature":
        """With a place for a newest displacement, and without the oldest: a copy."""
        curved = functional.pad(self.curved[:, 1:], (0, 1))
        sy = functional.pad(self.sy[:, 1:, 1:], (0, 1, 0, 1))
        sy[:, -1, -1] = 1
        return _Curvature(curved, sy, self.scale.clone(), self.reach.clone())

    def learn(self, is_curved: Tensor, products: Tensor, scale: Tensor) -> None:
        """Of the newest displacements: (B,), dot products of its y with each s, (B,)."""
        kept = is_curved.to(self.curved.dtype)
        self.curved[:, -1] = kept
        self.sy[:, :, -1] = products * self.curved * kept[:, None]
        self.sy[:, -1, -1] += 1 - kept
        self.scale.copy_(torch.where(is_curved, scale, self.scale.flatten()).view_as(self.scale))

    def limit(self, is_worse: Tensor, sizes: Tensor, longest_step: float) -> None:
        """Of the newest displacements: (B,), and their mean sizes, (B, 1, 1, 1)."""
        shorter = (SHORTENED * sizes).clamp_min(TINY)
        longer = (REGAINED * self.reach).clamp_max(longest_step)
        self.reach.copy_(torch.where(is_worse.view_as(sizes), shorter, longer))

    @property
    def is_known(self) -> Tensor:
        """Whether anything curved upwards, (B, 1, 1, 1)."""
        return self.curved.any(1).view_as(self.scale)

    def solved(self, products: Tensor, *, is_upper: bool) -> Tensor:
        """(B, history), of `sy` or of its transpose; 0 where nothing curved upwards."""
        matrix = self.sy if is_upper else self.sy.mT
        right = (products * self.curved).unsqueeze(-1)
        if matrix.device.type == "cpu":  # one by one: see `alignment`
            each = zip(map(aligned, matrix), map(aligned, right), strict=True)
            found = [torch.linalg.solve_triangular(*one, upper=is_upper) for one in each]
            return torch.stack(found).squeeze(-1)
        whole: Tensor = torch.linalg.solve_triangular(matrix, right, upper=is_upper)
        return whole.squeeze(-1)


def _mean_sizes(images: Tensor) -> Tensor:
    """The mean absolute value of each image, (B, 1, 1, 1); each by itself, as in `dots`."""
    sums = operators.norms(list(images), 1)
    return torch.stack(sums).view(-1, 1, 1, 1) / images[0].numel()
