"""One image on its way down at one size, and many of one size in one pass."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..objective.objective import Losses, Objective, evaluate, look
from ..optim.optimizers import Evaluation, Optimizer, stacked
from .memory_estimate import make_optimizer
from .pictures import clamped

OPTIMIZER = "optimizer."  # prefix of the optimiser's tensors in a state


class Descent:
    """An image and what is known of the way that it came, in tensors that stay where they are.

    What an optimiser knew of another size is of other pixels and of another loss: each size has a
    descent of its own.

    image: what the next move begins from, or what is evaluated next. (1, 3, H, W)
    last: its evaluation, once there was one.
    least: (), the loss of the best image; infinite where gradients of one size each are not those
        of the total, which may then rise all the way.
    """

    def __init__(self, objective: Objective, image: Tensor) -> None:
        self.objective = objective
        self.optimizer: Optimizer = make_optimizer(objective.plan, image)
        self.image = image
        self.last: Evaluation | None = None
        self.least = image.new_full((), math.inf)
        self._best: Tensor | None = None  # the best image, where that may be another

    @property
    def best(self) -> Tensor:
        """The best image so far; the last, where none is worse."""
        return self.image if self._best is None else self._best

    def keep(self, evaluation: Evaluation, total: Tensor, goes_on: Tensor) -> None:
        """What was found at an image.

        total, goes_on: (), its loss, and whether the next move begins from it.
        """
        if self.last is None:
            self.last = Evaluation(*(images.clone() for images in evaluation))
            self.image = self.last.images
            if not self.optimizer.is_monotone:
                self._best = self.image.clone()
        else:
            for last, new in zip(self.last, evaluation, strict=True):
                torch.where(goes_on, new, last, out=last)
            if self._best is not None:
                is_best = total <= self.least
                torch.where(is_best, evaluation.images, self._best, out=self._best)
        if not self.objective.plan.normalize_gradients:
            torch.minimum(self.least, total, out=self.least)

    def state_dict(self) -> dict[str, Tensor]:
        state = {"image": self.image.clone()}
        if self._best is not None:
            state["best_image"] = self._best.clone()
        if self.last:
            state["gradient"] = self.last.gradients.clone()
        return state | {OPTIMIZER + name: t for name, t in self.optimizer.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor], least: float) -> None:
        """Goes on from a state on the image's device. least: the loss of its best image."""
        self.image = state["image"].clone()
        self._best = state["best_image"].clone() if "best_image" in state else None
        self.last = None
        if "gradient" in state:
            self.last = Evaluation(self.image, state["gradient"].clone())
            if not self.objective.plan.normalize_gradients:
                self.least.fill_(least)
        own = {name: tensor for name, tensor in state.items() if name.startswith(OPTIMIZER)}
        self.optimizer.load_state_dict({n.removeprefix(OPTIMIZER): t for n, t in own.items()})


def better_of(descent: Descent, found: Losses, start: Tensor) -> tuple[Descent, Losses]:
    """Which to go on with at a size just entered, and its image's losses: this, or a new one.

    A picture that was nearly finished loses its details at the coarser sizes.
    found: of the image that was brought along. start: another of its size, (1, 3, H, W).
    """
    losses = Losses(*look(descent.objective, start).tolist())
    if not losses.total < found.total:
        return descent, found
    other = Descent(descent.objective, start)
    other.least.fill_(losses.total)
    return other, losses


def step(
    descents: Sequence[Descent], budget_bytes: int | None, check: Callable[[], None]
) -> Iterator[Tensor]:
    """The next evaluation of each. Yields the losses as soon as they are known, (B, 4).

    budget_bytes, check: as in `evaluate`.
    """
    images = _next_images(descents)
    objectives = [descent.objective for descent in descents]
    evaluation = evaluate(objectives, images, budget_bytes=budget_bytes, check=check)
    losses = next(evaluation)
    yield losses
    here = Evaluation(images, next(evaluation))
    totals = losses[:, 0].unbind()
    going_on = _update_optimizers(descents, here, totals)
    for descent, own, total, goes_on in zip(descents, here.split(), totals, going_on, strict=True):
        descent.keep(own, total, goes_on)


def _next_images(descents: Sequence[Descent]) -> Tensor:
    """Where each is evaluated next, (B, 3, H, W): its start, or one move further."""
    images = {i: descent.image for i, descent in enumerate(descents)}
    for kind, places in _by_optimizer(descents):
        last = {i: one for i in places if (one := descents[i].last)}
        if last:
            moved = kind.step([descents[i].optimizer for i in last], Evaluation.of(last.values()))
            # Projected here, not clipped when saved: what is evaluated is what a file can hold, and
            # the optimiser reads the displacement that is left. Straight-through, the unprojected
            # displacement and a gradient masked at the bounds ended within 2 % of it (128 px, 100
            # iterations, from content and from noise); this is the simplest.
            images |= dict(zip(last, torch.split(clamped(moved), 1), strict=True))
    return stacked(list(images.values()))


def _update_optimizers(
    descents: Sequence[Descent], here: Evaluation, totals: Sequence[Tensor]
) -> list[Tensor]:
    """Gives each optimiser the evaluation of its own image. Returns what they answer to it."""
    each = here.split()
    worse = [total > descent.least for descent, total in zip(descents, totals, strict=True)]
    going_on = list(worse)
    for kind, places in _by_optimizer(descents):
        seen = here if len(places) == len(descents) else Evaluation.of([each[i] for i in places])
        before = [descents[i].last for i in places]
        optimizers = [descents[i].optimizer for i in places]
        answers = kind.update(optimizers, before, seen, [worse[i] for i in places])
        for i, answer in zip(places, answers, strict=True):
            going_on[i] = answer
    return going_on


def _by_optimizer(descents: Sequence[Descent]) -> Iterable[tuple[type[Optimizer], list[int]]]:
    """The places of those that can be moved together."""
    places = defaultdict[type[Optimizer], list[int]](list)
    for i, descent in enumerate(descents):
        places[type(descent.optimizer)].append(i)
    return places.items()
