"""What a render is to do, in plain values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .errors import PlanError
from .layers import OptimizerName, Pooling, Precision, layer_of

Init = Literal["noise", "content", "style", "asset"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides a picture, beside the input pictures and the network.

    iterations: how many times the image is moved.
    learning_rate: factor on L-BFGS's step (1 is its own), or grey levels a step for Adam (10).
    init: what the image is before the first iteration.
    seed: of the noise that `init="noise"` starts from.
    content_layers, style_layers: layer to w_l; `relu4_2` and `conv4_2` are the same.
    content_weight, style_weight: the report's alpha and beta.
    precision: of the convolutions and their activations; all else is float32.
    normalize_gradients: whether each loss's gradient is scaled to one size before its weight.
    pyramid: how many sizes, coarse to fine; the last is the canvas, each is half of the next. Those
    too small to see something in are left out.
    strength: how much of the style, from 0, the photograph, to 1. With it losses are shares:
    content_weight, style_weight and normalize_gradients count for nothing, and tv_weight is a part
    of the style. See `balance`. None for the weights themselves.
    patience: iterations over which the loss must fall by 0.1 % for the render to go on; 0: none.
    Raises PlanError that names the field, the value and what is accepted.
    """

    iterations: int
    optimizer: OptimizerName
    learning_rate: float
    init: Init
    seed: int
    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    content_weight: float
    style_weight: float
    tv_weight: float
    pooling: Pooling
    precision: Precision
    normalize_gradients: bool
    pyramid: int
    patience: int
    strength: float | None

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            _require(value in choices, name, value, f"one of {', '.join(choices)}")
        for name, least in (("iterations", 1), ("pyramid", 1), ("patience", 0)):
            value = getattr(self, name)
            _require(value >= least, name, value, f"at least {least}")
        _require(
            0 < self.learning_rate < math.inf,
            "learning_rate",
            self.learning_rate,
            "finite, more than 0",
        )
        for name in ("content_weight", "style_weight", "tv_weight"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, name, value, "finite, at least 0")
        is_share = self.strength is None or 0 <= self.strength <= 1
        _require(is_share, "strength", self.strength, "0 to 1, or None")
        for name in ("content_layers", "style_layers"):
            for layer, weight in getattr(self, name).items():
                layer_of(layer)
                _require(0 <= weight < math.inf, f"{name}.{layer}", weight, "finite, at least 0")


CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": get_args(OptimizerName),
    "init": get_args(Init),
    "pooling": get_args(Pooling),
    "precision": get_args(Precision),
}


def _require(holds: bool, name: str, value: Any, accepted: str) -> None:
    if not holds:
        raise PlanError(f"{name} is {value!r}, accepted: {accepted}")


# The report's losses at two sizes: what a bench, or a test, of the engine alone begins with. A job
# has what its spec says.
PLAIN = Plan(
    iterations=200,
    optimizer="lbfgs",
    learning_rate=1.0,
    init="content",
    seed=0,
    content_layers={"relu4_2": 1.0},
    style_layers={f"relu{block}_1": 1 / 5 for block in range(1, 6)},
    content_weight=1.0,
    style_weight=1e3,
    tv_weight=0.0,
    pooling="avg",
    precision="float32",
    normalize_gradients=False,
    pyramid=2,
    patience=0,
    strength=None,
)
