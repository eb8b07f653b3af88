"""One picture's optimisation, from its start to its last iteration."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import Diverged, PlanError, ShapeError
from ..layers import Pooling, Precision
from ..network.strips import blocks, whole_bytes
from ..network.vgg import Vgg
from ..objective.balance import explicit
from ..objective.objective import Losses
from ..objective.styles import StyleCache
from ..plan import Plan
from .descent import Descent, better_of, step
from .memory_estimate import STEP_IMAGES
from .pictures import resized, to_picture
from .pyramid import Level, Pyramid, Style

PROGRESS_MIN = 1e-3  # the share by which the loss must fall within `plan.patience` iterations


class Progress(NamedTuple):
    """How far a render is.

    losses: of the picture so far, the best of its level, which `best` is the iteration of.
    seconds: what the last iteration took, for all renders that it was shared with.
    evaluated: of the image that `iteration` tried; above `losses` where it was not worth keeping.
    level: at which that was.
    """

    iteration: int
    iterations: int
    losses: Losses
    seconds: float
    best: int
    evaluated: Losses
    level: Level


class BatchKey(NamedTuple):
    """What renders must have in common to share a pass."""

    height: int
    width: int
    pooling: Pooling
    precision: Precision


class Render:
    """An image on its way from its start to the plan's last iteration.

    The first step evaluates the start, each other moves the image and evaluates it again. The
    picture is at any time the best that was evaluated at its size, and at no size worse than the
    start would be there: see docs/decisions/0008. With `plan.normalize_gradients`, which are not
    those of the total, it is the last.

    content: uint8 or uint16 (H, W, 3); its size is the canvas.
    init: the picture to start from with `plan.init == "asset"`, of any size.
    cache: style targets of earlier renders with this `vgg`.
    budget_bytes: what the features of one pass may take; None for whatever they need.
    Raises ShapeError if a picture is too small for the deepest layer, PlanError if what the plan
    needs is not given.
    """

    def __init__(
        self,
        plan: Plan,
        vgg: Vgg,
        content: Tensor,
        styles: Sequence[Style],
        *,
        init: Tensor | None = None,
        cache: StyleCache | None = None,
        budget_bytes: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not styles:
            raise PlanError("styles is empty, accepted: at least one")
        self.plan = plan
        self.device = vgg.device
        self.scale = 0  # which size of the pyramid it is at
        self.pass_bytes: int  # what the features of its passes take if they are kept whole
        self._vgg = vgg
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._size = content.shape[:2]
        cache = StyleCache() if cache is None else cache
        self._pyramid = Pyramid(plan, vgg, content, styles, init=init, cache=cache)
        self._descent: Descent
        self._is_started = False  # the start was evaluated
        self._patient_since: tuple[float, int]  # the loss that is to fall, and since when
        self._level: Level
        self._enter(0, self._pyramid.start(0))
        nothing = Losses(*[math.nan] * 4)
        self.progress = Progress(0, plan.iterations, nothing, 0.0, 0, nothing, self._level)

    @property
    def iteration(self) -> int:
        return self.progress.iteration

    @property
    def is_finished(self) -> bool:
        """At the last iteration, or where more of them would change little."""
        if self._descent.last is None:
            return False
        _, since = self._patient_since
        patience = self.plan.patience
        is_idle = 0 < patience <= self.iteration - since and self.scale == self._pyramid.finest
        return self.iteration >= self.plan.iterations or is_idle

    @property
    def batch_key(self) -> BatchKey:
        """Renders for which this is equal can be stepped in one pass."""
        height, width = self._descent.image.shape[-2:]
        return BatchKey(height, width, self.plan.pooling, self.plan.precision)

    @property
    def spare_bytes(self) -> int:
        """What earlier passes of this network wrote into, less what is needed beside a pass."""
        image, optimizer = self._descent.image, self._descent.optimizer
        beside_bytes = optimizer.growth_bytes(image) + STEP_IMAGES * image.nbytes
        return self._vgg.arena.size_bytes - beside_bytes

    def weights(self) -> Mapping[str, float | Mapping[str, float]]:
        """All that is weighed at this size, by the plan's names, as if it had named them."""
        return explicit(self._descent.objective.plan)

    def release(self) -> None:
        """Frees what passes of this network wrote into; the next one takes what it needs."""
        self._vgg.graphs.clear()
        self._vgg.arena.clear()

    def step(self) -> Progress:
        """The next evaluation of the image, moved before unless it is the first.

        Raises Diverged if the loss is not finite.
        """
        (error,) = self.step_together([self], budget_bytes=self._budget_bytes)
        if error:
            raise error
        return self.progress

    @staticmethod
    def step_together(
        renders: "Sequence[Render]",
        *,
        budget_bytes: int | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> list[Exception | None]:
        """The next evaluation of each render, in one pass.

        renders: of one `batch_key`.
        budget_bytes, check: as in `evaluate`.
        Returns, for each render, what went wrong with it alone.
        """
        first = renders[0]
        began = first._clock()
        descents = [render._descent for render in renders]
        step_once = partial(step, descents, budget_bytes, check)
        needed_bytes = len(renders) * max(render.pass_bytes for render in renders)
        graphs = first._vgg.graphs
        if first.device.type == "cuda" and (budget_bytes is None or needed_bytes <= budget_bytes):
            check()  # it is over before anybody could ask again
            found = graphs.run(step_once, descents)
        else:
            found = graphs.run_eagerly(step_once)
        losses = [Losses(*row) for row in found.tolist()]
        seconds = first._clock() - began
        errors: list[Exception | None] = []
        for render, loss in zip(renders, losses, strict=True):
            try:
                render._accept(loss, seconds)
            except Exception as error:  # this render's alone: the others go on
                errors.append(error)
            else:
                errors.append(None)
        return errors

    def image(self) -> Tensor:
        """The picture so far: float32 (H, W, 3), 0..255, on the host, of the canvas's size."""
        return self.snapshot()()

    def snapshot(self) -> Callable[[], Tensor]:
        """Takes the picture so far; what is returned waits for it, in any thread."""
        return to_picture(resized(self._descent.best, *self._size))

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on beside the constructor's arguments, on the host.

        Flat, and untouched by later steps: it can be written while the render goes on.
        """
        state = {
            "iteration": torch.tensor(self.iteration),
            "losses": torch.tensor(self.progress.losses, dtype=torch.float64),
            "evaluated": torch.tensor(self.progress.evaluated, dtype=torch.float64),
            "best": torch.tensor(self.progress.best),
            "patient_since": torch.tensor(self._patient_since, dtype=torch.float64),
            **self._descent.state_dict(),
        }
        return {name: tensor.cpu() for name, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken, from a render of the same arguments.

        On the CPU in float32 the pictures that follow are the same to the bit.
        Raises ShapeError if the state is of another canvas.
        """
        iteration = int(state["iteration"])
        scale = self._pyramid.scale_at(iteration + 1)
        if scale != self.scale or self._descent.last:
            self._enter(scale, self._pyramid.canvas(scale))
        if state["image"].shape != self._descent.image.shape:
            raise ShapeError(
                f"the state is of an image {tuple(state['image'].shape)},"
                f" this render's is {tuple(self._descent.image.shape)}"
            )
        losses, evaluated = (Losses(*state[name].tolist()) for name in ("losses", "evaluated"))
        self.progress = Progress(
            iteration,
            self.plan.iterations,
            losses,
            seconds=0,
            best=int(state["best"]),
            evaluated=evaluated,
            level=self._pyramid.level(self._pyramid.scale_at(iteration)),
        )
        self._is_started = math.isfinite(losses.total)
        least, since = state["patient_since"].tolist()
        self._patient_since = least, int(since)
        here = {name: tensor.to(self.device) for name, tensor in state.items()}
        self._descent.load_state_dict(here, losses.total)

    def _accept(self, found: Losses, seconds: float) -> None:
        """The losses of the next image."""
        iteration = self.iteration + (1 if self._is_started else 0)
        if not math.isfinite(found.total):
            raise Diverged(f"the loss became {found.total} in iteration {iteration}: {found}")
        descends = not self.plan.normalize_gradients
        is_first = self.progress.level != self._level or not self._is_started
        if is_first and self.scale and descends:
            start = self._pyramid.start(self.scale)
            self._descent, found = better_of(self._descent, found, start)
        losses, best = self.progress.losses, self.progress.best
        if is_first or not descends or found.total <= losses.total:
            losses, best = found, iteration
        self._is_started = True
        self.progress = Progress(
            iteration, self.plan.iterations, losses, seconds, best, found, self._level
        )
        if losses.total < self._patient_since[0] * (1 - PROGRESS_MIN):
            self._patient_since = losses.total, iteration
        scale = self._pyramid.scale_at(iteration + 1)
        if scale != self.scale and not self.is_finished:
            level = self._pyramid.level(scale)
            self._enter(scale, resized(self._descent.best, level.height, level.width))

    def _enter(self, scale: int, image: Tensor) -> None:
        """Goes on at a size of the pyramid, from an image of that size."""
        self.scale = scale
        self._level = self._pyramid.level(scale)
        objective = self._pyramid.objective(scale)
        self._descent = Descent(objective, image)
        self._patient_since = math.inf, self.progress.iteration if self._is_started else 0
        passed = blocks(objective.layers, *image.shape[-2:])
        self.pass_bytes = whole_bytes(passed, self.plan.precision)
