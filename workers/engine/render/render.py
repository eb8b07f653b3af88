"""One picture's optimisation, from its start to its last iteration."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import Diverged, PlanError, ShapeError
from ..layers import Pooling, Precision
from ..network.strips import blocks, whole_bytes
from ..network.vgg import Vgg
from ..objective.balance import Factors, balanced, explicit, factors
from ..objective.losses import tv_loss
from ..objective.objective import Losses, Objective, Region, evaluate, look
from ..objective.styles import StyleCache, StyleTarget, style_target
from ..optim.optimizers import Evaluation, Optimizer, stacked
from ..plan import Plan
from .memory_estimate import STEP_IMAGES, make_optimizer
from .pictures import (
    SCALE_SIDE_MIN,
    clamped,
    resized,
    shrunk,
    shrunk_size,
    start,
    to_image,
    to_mask,
    to_picture,
)

OPTIMIZER = "optimizer."  # prefix of the optimiser's tensors in a render's state
# At one of the coarser sizes, at most, without a strength: more led some pairs astray. By strength
# each size has a balance of its own.
COARSE_ITERATIONS = 25
PROGRESS_MIN = 1e-3  # the share by which the loss must fall within `plan.patience` iterations


@dataclass(frozen=True, eq=False)
class Style:
    """One painting that a render takes its style from.

    picture: uint8 or uint16 (H, W, 3), at the size at which its strokes are wanted.
    weight: its share among the styles of the render.
    asset: names the picture, so that its target can be kept; without a name it is not.
    mask: uint8 (H, W), of the canvas's size, white where the style applies; None for everywhere.
    opaque: uint8 (H, W), of the picture's size, white where it is painted; None for all of it.
    """

    picture: Tensor
    weight: float = 1.0
    asset: str = ""
    mask: Tensor | None = None
    opaque: Tensor | None = None


class Level(NamedTuple):
    """A size of the pyramid.

    number: from 1, the coarsest. height, width: of its canvas. factors: of the losses there.
    """

    number: int
    height: int
    width: int
    factors: Factors


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
        self._vgg = vgg
        self._cache = StyleCache() if cache is None else cache
        self._budget_bytes = budget_bytes
        self._clock = clock
        self._content = content
        self._styles = styles
        self._init = init
        self._variation = 0.0 if plan.strength is None else self._variation_of_styles()
        self._is_started = False  # the start was evaluated
        # Gradients of one size each are not those of the total, which may rise all the way.
        self._descends = not plan.normalize_gradients
        height, width = to_image(content).shape[-2:]
        fitting = min(height, width) // SCALE_SIDE_MIN
        each_moves = 1 + plan.iterations // 2
        self._scales = max(1, min(plan.pyramid, fitting.bit_length(), each_moves))
        self._image: Tensor  # that the next move begins from, or that is evaluated next
        self._last: Evaluation | None  # its own, once there was one at this size
        self._best: Tensor | None  # the best image, where that may be another
        self._least: Tensor  # (), the loss of the best at this size
        self._patient_since: tuple[float, int]  # the loss that is to fall, and since when
        self._level: Level
        self._optimizer: Optimizer
        self._objective: Objective
        self._enter(0, self._start)
        nothing = Losses(*[math.nan] * 4)
        self.progress = Progress(0, plan.iterations, nothing, 0.0, 0, nothing, self._level)

    @property
    def iteration(self) -> int:
        return self.progress.iteration

    @property
    def is_finished(self) -> bool:
        """At the last iteration, or where more of them would change little."""
        if self._last is None:
            return False
        _, since = self._patient_since
        patience = self.plan.patience
        is_idle = 0 < patience <= self.iteration - since and self._scale == self._scales - 1
        return self.iteration >= self.plan.iterations or is_idle

    @property
    def scale(self) -> int:
        """Which size of the pyramid it is at, from 0."""
        return self._scale

    @property
    def batch_key(self) -> BatchKey:
        """Renders for which this is equal can be stepped in one pass."""
        height, width = self._image.shape[-2:]
        return BatchKey(height, width, self.plan.pooling, self.plan.precision)

    @property
    def device(self) -> torch.device:
        return self._vgg.device

    @property
    def pass_bytes(self) -> int:
        """What the features of its passes take if they are kept whole."""
        return self._pass_bytes

    @property
    def spare_bytes(self) -> int:
        """What earlier passes of this network wrote into, less what is needed beside a pass."""
        growth_bytes = self._optimizer.growth_bytes(self._image)
        return self._vgg.arena.size_bytes - growth_bytes - STEP_IMAGES * self._image.nbytes

    def weights(self) -> Mapping[str, float | Mapping[str, float]]:
        """All that is weighed at this size, by the plan's names, as if it had named them."""
        return explicit(self._objective.plan)

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
        step = partial(_step, renders, budget_bytes, check)
        needed_bytes = len(renders) * max(render.pass_bytes for render in renders)
        graphs = first._vgg.graphs
        if first.device.type == "cuda" and (budget_bytes is None or needed_bytes <= budget_bytes):
            check()  # it is over before anybody could ask again
            found = graphs.run(step, [render._objective for render in renders])
        else:
            found = graphs.run_eagerly(step)
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
        best = self._image if self._best is None else self._best
        return to_picture(resized(best, *self._content.shape[:2]))

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
            "image": self._image.clone(),
        }
        if self._best is not None:
            state["best_image"] = self._best.clone()
        if self._last:
            state["gradient"] = self._last.gradients.clone()
        state |= {OPTIMIZER + name: t for name, t in self._optimizer.state_dict().items()}
        return {name: tensor.cpu() for name, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken, from a render of the same arguments.

        On the CPU in float32 the pictures that follow are the same to the bit.
        Raises ShapeError if the state is of another canvas.
        """
        iteration = int(state["iteration"])
        scale = self._scale_at(iteration + 1)
        if scale != self._scale or self._last:  # what it has stays where it is, and is let go
            self._enter(scale, lambda canvas: canvas)
        if state["image"].shape != self._image.shape:
            raise ShapeError(
                f"the state is of an image {tuple(state['image'].shape)},"
                f" this render's is {tuple(self._image.shape)}"
            )
        losses, evaluated = (Losses(*state[name].tolist()) for name in ("losses", "evaluated"))
        self.progress = Progress(
            iteration,
            self.plan.iterations,
            losses,
            seconds=0,
            best=int(state["best"]),
            evaluated=evaluated,
            level=self._level_at(self._scale_at(iteration)),
        )
        self._is_started = math.isfinite(losses.total)
        least, since = state["patient_since"].tolist()
        self._patient_since = least, int(since)
        here = {name: tensor.to(self._vgg.device) for name, tensor in state.items()}
        self._image = here["image"].clone()
        self._best = here["best_image"].clone() if "best_image" in here else None
        self._last = None
        if "gradient" in here:
            self._last = Evaluation(self._image, here["gradient"].clone())
            if self._descends:
                self._least.fill_(losses.total)
        self._optimizer.load_state_dict(
            {
                name.removeprefix(OPTIMIZER): tensor
                for name, tensor in here.items()
                if name.startswith(OPTIMIZER)
            }
        )

    def _keep(self, evaluation: Evaluation, total: Tensor, goes_on: Tensor) -> None:
        """What was found at an image, in tensors that stay where they are.

        total, goes_on: (), its loss, and whether the next move begins from it.
        """
        if self._last is None:
            self._last = Evaluation(*(images.clone() for images in evaluation))
            self._image = self._last.images
            if not self._optimizer.is_monotone:
                self._best = self._image.clone()
        else:
            for last, new in zip(self._last, evaluation, strict=True):
                torch.where(goes_on, new, last, out=last)
            if self._best is not None:
                is_best = total <= self._least
                torch.where(is_best, evaluation.images, self._best, out=self._best)
        if self._descends:  # else it stays infinite, and nothing is worse
            torch.minimum(self._least, total, out=self._least)

    def _accept(self, found: Losses, seconds: float) -> None:
        """The losses of the next image."""
        iteration = self.iteration + (1 if self._is_started else 0)
        if not math.isfinite(found.total):
            raise Diverged(f"the loss became {found.total} in iteration {iteration}: {found}")
        is_first = self.progress.level != self._level or not self._is_started
        if is_first and self._scale and self._descends:
            found = self._better_of_start(found)
        losses, best = self.progress.losses, self.progress.best
        if is_first or not self._descends or found.total <= losses.total:
            losses, best = found, iteration
        self._is_started = True
        self.progress = Progress(
            iteration, self.plan.iterations, losses, seconds, best, found, self._level
        )
        if losses.total < self._patient_since[0] * (1 - PROGRESS_MIN):
            self._patient_since = losses.total, iteration
        scale = self._scale_at(iteration + 1)
        if scale != self._scale and not self.is_finished:
            image = self._image if self._best is None else self._best
            self._enter(scale, lambda canvas: resized(image, *canvas.shape[-2:]))

    def _better_of_start(self, found: Losses) -> Losses:
        """Goes on from the render's start where that is better than what was brought along.

        A picture that was nearly finished loses its details at the coarser sizes.
        found: the losses of what was brought along. Returns those of the image to go on from.
        """
        image = self._start(self._canvas())
        losses = Losses(*look(self._objective, image).tolist())
        if not losses.total < found.total:
            return found
        self._begin_from(image)
        self._least.fill_(losses.total)
        return losses

    def _scale_at(self, iteration: int) -> int:
        """The size at which an iteration is made: the coarser ones share half of them."""
        finest = self._scales - 1
        if finest == 0:
            return 0
        each = self.plan.iterations // (2 * finest)
        if self.plan.strength is None:
            each = min(COARSE_ITERATIONS, each)
        return min(max(0, iteration - 1) // each, finest)

    def _shrink(self, scale: int) -> int:
        return int(2 ** (self._scales - 1 - scale))

    def _canvas(self) -> Tensor:
        """The content, of the size that it is at."""
        return shrunk(to_image(self._content, self.device), self._shrink(self._scale))

    def _level_at(self, scale: int) -> Level:
        shrink = self._shrink(scale)
        height, width = shrunk_size(self._content.shape[:2], shrink)
        its = factors(self.plan, height, width, shrink, self._variation)
        return Level(scale + 1, height, width, its)

    def _start(self, canvas: Tensor) -> Tensor:
        return start(self.plan, canvas, self._styles[0].picture, self._init)

    def _variation_of_styles(self) -> float:
        """The total variation of a pixel of the paintings, by their shares."""
        found, whole = 0.0, sum(style.weight for style in self._styles)
        for style in self._styles:
            image = to_image(style.picture, self.device)[0]
            found += style.weight / whole * float(tv_loss(image)) / image[0].numel()
        return found

    def _enter(self, scale: int, begin: Callable[[Tensor], Tensor]) -> None:
        """Goes on at a size of the pyramid, from an image of that size."""
        self._scale = scale
        self._level = self._level_at(scale)
        canvas = self._canvas()
        self._begin_from(begin(canvas))
        regions = self._regions(canvas, self._shrink(scale))
        plan = self.plan
        if plan.strength is not None:
            whole = sum(style.weight for style in self._styles)
            size = canvas.shape[-2:]
            paintings = (  # one after the other: each is as large as the canvas
                (resized(to_image(style.picture, self.device), *size), style.weight / whole)
                for style in self._styles
            )
            plan = balanced(plan, self._vgg, canvas, paintings, regions)
        plan = replace(plan, **self._level.factors._asdict())
        self._objective = Objective(plan, self._vgg, canvas, regions)
        passed = blocks(self._objective.layers, *canvas.shape[-2:])
        self._pass_bytes = whole_bytes(passed, plan.precision)

    def _begin_from(self, image: Tensor) -> None:
        """Nothing is known yet of this image, nor of what lies around it.

        What an optimiser knew of another size is of other pixels and of another loss.
        """
        self._image = image
        self._last = self._best = None
        self._least = image.new_full((), math.inf)
        self._patient_since = math.inf, self.progress.iteration if self._is_started else 0
        self._optimizer = make_optimizer(self.plan, image)

    def _regions(self, canvas: Tensor, shrink: int) -> list[Region]:
        """The styles with their shares, those without a mask together."""
        whole = sum(style.weight for style in self._styles)
        everywhere: list[tuple[StyleTarget, float]] = []
        regions = [Region(everywhere)]
        for style in self._styles:
            shared = self._target(style, shrink), style.weight / whole
            if style.mask is None:
                everywhere.append(shared)
            else:
                regions.append(Region([shared], to_mask(style.mask, canvas)))
        return [region for region in regions if region.styles]

    def _target(self, style: Style, shrink: int) -> StyleTarget:
        plan, vgg = self.plan, self._vgg
        # A painting may be smaller than the canvas: what is shrunk too far fits no deep layer.
        shrink = max(1, min(shrink, min(style.picture.shape[:2]) // SCALE_SIDE_MIN))

        def make() -> StyleTarget:
            image = shrunk(to_image(style.picture, vgg.device), shrink)
            return style_target(
                vgg,
                image,
                plan.style_layers,
                pooling=plan.pooling,
                precision=plan.precision,
                opaque=None if style.opaque is None else to_mask(style.opaque, image),
            )

        if not style.asset:
            return make()
        layers = frozenset(plan.style_layers)
        size = (*style.picture.shape, shrink)
        key = (style.asset, size, layers, vgg.weights.digest, plan.pooling, plan.precision)
        return self._cache.get(key, make)


def _step(
    renders: Sequence[Render], budget_bytes: int | None, check: Callable[[], None]
) -> Iterator[Tensor]:
    """The next evaluation of each render. Yields the losses as soon as they are known, (B, 4)."""
    images = _next_images(renders)
    objectives = [render._objective for render in renders]
    evaluation = evaluate(objectives, images, budget_bytes=budget_bytes, check=check)
    losses = next(evaluation)
    yield losses
    here = Evaluation(images, next(evaluation))
    totals = losses[:, 0].unbind()
    going_on = _update_optimizers(renders, here, totals)
    for render, own, total, goes_on in zip(renders, here.split(), totals, going_on, strict=True):
        render._keep(own, total, goes_on)


def _next_images(renders: Sequence[Render]) -> Tensor:
    """Where each render is evaluated next, (B, 3, H, W): its start, or one move further."""
    images = {i: render._image for i, render in enumerate(renders)}
    for kind, places in _by_optimizer(renders):
        last = {i: one for i in places if (one := renders[i]._last)}
        if last:
            moved = kind.step([renders[i]._optimizer for i in last], Evaluation.of(last.values()))
            # Projected here, not clipped when saved: what is evaluated is what a file can hold, and
            # the optimiser reads the displacement that is left. Straight-through, the unprojected
            # displacement and a gradient masked at the bounds ended within 2 % of it (128 px, 100
            # iterations, from content and from noise); this is the simplest.
            images |= dict(zip(last, torch.split(clamped(moved), 1), strict=True))
    return stacked(list(images.values()))


def _update_optimizers(
    renders: Sequence[Render], here: Evaluation, totals: Sequence[Tensor]
) -> list[Tensor]:
    """Gives each optimiser the evaluation of its own image. Returns what they answer to it."""
    each = here.split()
    worse = [total > render._least for render, total in zip(renders, totals, strict=True)]
    going_on = list(worse)
    for kind, places in _by_optimizer(renders):
        seen = here if len(places) == len(renders) else Evaluation.of([each[i] for i in places])
        before = [renders[i]._last for i in places]
        optimizers = [renders[i]._optimizer for i in places]
        answers = kind.update(optimizers, before, seen, [worse[i] for i in places])
        for i, answer in zip(places, answers, strict=True):
            going_on[i] = answer
    return going_on


def _by_optimizer(renders: Sequence[Render]) -> Iterable[tuple[type[Optimizer], list[int]]]:
    """The places of the renders that can be moved together."""
    places = defaultdict[type[Optimizer], list[int]](list)
    for i, render in enumerate(renders):
        places[type(render._optimizer)].append(i)
    return places.items()
