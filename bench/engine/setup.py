"""What all sections share: the pictures, the network, and what a device can do at most."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from bench import vgg
from bench.pictures import Pair, pairs
from impasto.shared.pictures import codec
from impasto.workers.engine.layers import CHANNELS, LAYERS
from impasto.workers.engine.network.vgg import Vgg, resolve_precision
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

from .turns import repeat, wait

ROUNDS = 10
TURN_SECONDS, GPU_TURN_SECONDS = 1.5, 0.1  # of a way that is measured

Figures = dict[str, Any]
Asked = Literal["auto", "float32", "bfloat16"]


class Bench:
    """What all sections share."""

    def __init__(
        self,
        size: int,
        device: str,
        folder: Path | None,
        precision: Asked = "auto",
        *,
        is_trial: bool = False,
    ) -> None:
        """is_trial: everything once and briefly, to see that it runs."""
        self.size = size
        self.is_trial = is_trial
        self.rounds = 1 if is_trial else ROUNDS
        self.pairs = pairs(folder)
        self.vgg = Vgg(vgg.original_weights(), device)
        # At one size: an iteration is an iteration. What `quality` races is the default recipe.
        self.plan = replace(PLAIN, precision=resolve_precision(precision, device), pyramid=1)
        self.keep: Callable[[Figures], None] = lambda _: None  # what a long section has so far

    @property
    def is_on_gpu(self) -> bool:
        return self.vgg.device.type == "cuda"

    def runs(self, way: Callable[[], Any]) -> int:
        """How many times it goes into a turn: many, as renders step."""
        if self.is_trial:
            return 1
        repeat(way, 4)  # by then a GPU's steps are recorded
        wait()
        began = time.perf_counter()
        way()
        wait()
        seconds = GPU_TURN_SECONDS if self.is_on_gpu else TURN_SECONDS
        return max(1, round(seconds / (time.perf_counter() - began)))

    def pictures(self, pair: Pair, size: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(codec.decode(file.read_bytes(), size).picture) for file in pair)

    def render(self, pair: Pair, size: int = 0, plan: Plan | None = None, **more: Any) -> Render:
        content, style = self.pictures(pair, size or self.size)
        return Render(plan or self.plan, self.vgg, content, [Style(style)], **more)


class MatrixProduct:
    """A large matrix product in the convolutions' precision; called, it makes one."""

    def __init__(self, bench: Bench) -> None:
        side = 4096 if bench.is_on_gpu else 2048
        self.flops = 2 * side**3
        dtype = torch.bfloat16 if bench.plan.precision == "bfloat16" else torch.float32
        self._a, self._b = (
            torch.randn(side, side, device=bench.vgg.device).to(dtype) for _ in "ab"
        )

        self._out = torch.empty_like(self._a)  # as what we convolve into, it is there already

    def __call__(self) -> None:
        torch.mm(self._a, self._b, out=self._out)


def convolution_flops(height: int, width: int) -> int:
    """What direct convolutions take forward and backward, to relu5_1."""
    flops = 0
    for layer in LAYERS[: LAYERS.index("5_1") + 1]:
        shrink = 2 ** (int(layer[0]) - 1)
        inputs, outputs = CHANNELS[layer]
        flops += 2 * 9 * inputs * outputs * (height // shrink) * (width // shrink)
    return 2 * flops


def tell(name: str, figures: Figures) -> None:
    print(name)
    for key, value in figures.items():
        print(f"  {key}: {json.dumps(value, default=str)[:500]}", flush=True)
