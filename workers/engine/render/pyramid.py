"""The sizes of a render, from the coarsest to its canvas, and what is minimised at each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from ..network.vgg import Vgg
from ..objective.balance import Factors, balanced, factors
from ..objective.losses import tv_loss
from ..objective.objective import Objective
from ..objective.regions import Region
from ..objective.styles import StyleCache, StyleTarget, style_target
from ..plan import Plan
from .pictures import SCALE_SIDE_MIN, resized, shrunk, shrunk_size, start, to_image, to_mask

# At one of the coarser sizes, at most, without a strength: more led some pairs astray. By strength
# each size has a balance of its own.
COARSE_ITERATIONS = 25


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


class Pyramid:
    """Of one render: its sizes are its scales, counted from 0, the coarsest.

    The arguments are those of `Render`.
    """

    def __init__(
        self,
        plan: Plan,
        vgg: Vgg,
        content: Tensor,
        styles: Sequence[Style],
        *,
        init: Tensor | None,
        cache: StyleCache,
    ) -> None:
        self._plan = plan
        self._vgg = vgg
        self._content = content
        self._styles = styles
        self._init = init
        self._cache = cache
        self._variation = 0.0 if plan.strength is None else self._variation_of_styles()
        height, width = to_image(content).shape[-2:]
        fitting = min(height, width) // SCALE_SIDE_MIN
        each_moves = 1 + plan.iterations // 2
        self._count = max(1, min(plan.pyramid, fitting.bit_length(), each_moves))
        self._canvas: Tensor
        self._canvas_scale: int | None = None

    @property
    def finest(self) -> int:
        """The last scale, of the canvas's size."""
        return self._count - 1

    def scale_at(self, iteration: int) -> int:
        """That at which an iteration is made: the coarser ones share half of them."""
        if self.finest == 0:
            return 0
        each = self._plan.iterations // (2 * self.finest)
        if self._plan.strength is None:
            each = min(COARSE_ITERATIONS, each)
        return min(max(0, iteration - 1) // each, self.finest)

    def level(self, scale: int) -> Level:
        shrink = self._shrink(scale)
        height, width = shrunk_size(self._content.shape[:2], shrink)
        its = factors(self._plan, height, width, shrink, self._variation)
        return Level(scale + 1, height, width, its)

    def canvas(self, scale: int) -> Tensor:
        """The content, of the size of a scale; made once while nobody asks for another."""
        if scale != self._canvas_scale:
            self._canvas = shrunk(to_image(self._content, self._vgg.device), self._shrink(scale))
            self._canvas_scale = scale
        return self._canvas

    def start(self, scale: int) -> Tensor:
        """What a render that began at this scale would begin from."""
        return start(self._plan, self.canvas(scale), self._styles[0].picture, self._init)

    def objective(self, scale: int) -> Objective:
        """What is minimised there."""
        plan, canvas = self._plan, self.canvas(scale)
        regions = self._regions(canvas, self._shrink(scale))
        if plan.strength is not None:
            whole = sum(style.weight for style in self._styles)
            size = canvas.shape[-2:]
            paintings = (  # one after the other: each is as large as the canvas
                (resized(to_image(style.picture, canvas.device), *size), style.weight / whole)
                for style in self._styles
            )
            plan = balanced(plan, self._vgg, canvas, paintings, regions)
        plan = replace(plan, **self.level(scale).factors._asdict())
        return Objective(plan, self._vgg, canvas, regions)

    def _shrink(self, scale: int) -> int:
        return int(2 ** (self.finest - scale))

    def _variation_of_styles(self) -> float:
        """The total variation of a pixel of the paintings, by their shares."""
        found, whole = 0.0, sum(style.weight for style in self._styles)
        for style in self._styles:
            image = to_image(style.picture, self._vgg.device)[0]
            found += style.weight / whole * float(tv_loss(image)) / image[0].numel()
        return found

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
        plan, vgg = self._plan, self._vgg
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
