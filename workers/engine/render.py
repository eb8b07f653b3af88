"""One picture's optimisation, from its start to its last iteration."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from workers.engine.errors import Diverged, PlanError, ShapeError
from workers.engine.objective import Losses, Objective
from workers.engine.optimizers import Adam, Lbfgs, Optimizer
from workers.engine.pictures import clamped, noise, resized, to_image
from workers.engine.plan import Plan
from workers.engine.styles import StyleCache, StyleTarget, style_target
from workers.engine.vgg import Vgg

OPTIMIZER = "optimizer."  # prefix of the optimiser's tensors in a render's state


@dataclass(frozen=True, eq=False)
class Style:
    """One painting that a render takes its style from.

    picture: uint8 (H, W, 3), at the size at which its strokes are wanted.
    weight: its share among the styles of the render.
    asset: names the picture, so that its target can be kept; without a name it is not.
    mask: uint8 (H, W), of the canvas's size, white where this style applies; without, everywhere.
    """

    picture: Tensor
    weight: float = 1.0
    asset: str = ""
    mask: Tensor | None = None


class Progress(NamedTuple):
    """How far a render is. The losses are those of the image after `iteration` moves.

    seconds: what the last iteration took.
    """

    iteration: int
    iterations: int
    losses: Losses
    seconds: float


class Render:
    """An image on its way from its start to the plan's last iteration.

    content: uint8 (H, W, 3); its size is the canvas.
    init: the picture to start from with `plan.init == "asset"`, of any size.
    cache: style targets of earlier renders with this `vgg`.
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
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not styles:
            raise PlanError("styles is empty, accepted: at least one")
        self.plan = plan
        self._device = vgg.device
        self._clock = clock
        canvas = to_image(content, self._device)
        cache = StyleCache() if cache is None else cache
        targets = [(_target(plan, vgg, style, cache), style.weight) for style in styles]
        self._objective = Objective(plan, vgg, canvas, targets)
        self._optimizer = _optimizer(plan)
        self._image = _start(plan, canvas, styles[0].picture, init)
        began = clock()
        losses, self._gradient = self._look(0)
        self.progress = Progress(0, plan.iterations, losses, self._clock() - began)

    @property
    def iteration(self) -> int:
        return self.progress.iteration

    @property
    def is_finished(self) -> bool:
        return self.progress.iteration >= self.progress.iterations

    def step(self) -> Progress:
        """Moves the image and looks at it, once each, so that the losses are those of `image()`.

        Raises Diverged if the loss is not finite.
        """
        began = self._clock()
        # Projected here, not clipped when saved: what is evaluated is what a file can hold, and the
        # optimiser reads the displacement that is left. Straight-through, the unprojected
        # displacement and a gradient masked at the bounds ended within 2 % of it (128 px, 100
        # iterations, from content and from noise); this is the simplest.
        self._image = clamped(self._optimizer.step(self._image, self._gradient))
        losses, self._gradient = self._look(self.iteration + 1)
        self.progress = self.progress._replace(
            iteration=self.iteration + 1, losses=losses, seconds=self._clock() - began
        )
        return self.progress

    def image(self) -> Tensor:
        """The picture so far: float32 (H, W, 3), 0..255, on the host."""
        return self._image[0].permute(1, 2, 0).contiguous().cpu()

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on beside the constructor's arguments, on the host.

        Flat, and untouched by later steps: it can be written while the render goes on.
        """
        state = {
            "iteration": torch.tensor(self.iteration),
            "losses": torch.tensor(self.progress.losses, dtype=torch.float64),
            "image": self._image,
            "gradient": self._gradient,
        }
        state |= {OPTIMIZER + name: t for name, t in self._optimizer.state_dict().items()}
        return {name: tensor.cpu() for name, tensor in state.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on where `state` was taken, from a render of the same arguments.

        On the CPU in float32 the pictures that follow are the same to the bit.
        Raises ShapeError if the state is of another canvas.
        """
        if state["image"].shape != self._image.shape:
            raise ShapeError(
                f"the state is of an image {tuple(state['image'].shape)},"
                f" this render's is {tuple(self._image.shape)}"
            )
        losses = Losses(*state["losses"].tolist())
        self.progress = Progress(int(state["iteration"]), self.plan.iterations, losses, seconds=0)
        self._image = state["image"].to(self._device)
        self._gradient = state["gradient"].to(self._device)
        self._optimizer.load_state_dict(
            {
                name.removeprefix(OPTIMIZER): tensor.to(self._device)
                for name, tensor in state.items()
                if name.startswith(OPTIMIZER)
            }
        )

    def _look(self, iteration: int) -> tuple[Losses, Tensor]:
        found, gradient = self._objective.evaluate(self._image)
        losses = Losses(*found.tolist())
        if not math.isfinite(losses.total):
            raise Diverged(f"the loss became {losses.total} in iteration {iteration}: {losses}")
        return losses, gradient


def _target(plan: Plan, vgg: Vgg, style: Style, cache: StyleCache) -> StyleTarget:
    def make() -> StyleTarget:
        image = to_image(style.picture, vgg.device)
        return style_target(vgg, image, plan.style_layers, plan.pooling, plan.precision)

    if not style.asset:
        return make()
    layers = frozenset(plan.style_layers)
    size = tuple(style.picture.shape)
    key = (style.asset, size, layers, vgg.weights.digest, plan.pooling, plan.precision)
    return cache.get(key, make)


def _optimizer(plan: Plan) -> Optimizer:
    if plan.optimizer == "adam":
        return Adam(plan.learning_rate)
    return Lbfgs(plan.learning_rate)


def _start(plan: Plan, canvas: Tensor, style: Tensor, init: Tensor | None) -> Tensor:
    height, width = canvas.shape[-2:]
    match plan.init:
        case "content":
            return canvas
        case "noise":
            return noise(height, width, plan.seed).to(canvas.device)
        case "style":
            return resized(to_image(style, canvas.device), height, width)
        case "asset":
            if init is None:
                raise PlanError("init is 'asset', but no picture to start from was given")
            return resized(to_image(init, canvas.device), height, width)
