"""A render without a network: a chain of hashes, whose last link decides every pixel.

Everything else of an attempt is real around it. An iteration that is done twice, left out, or
done from a state that is not wholly the one before gives another picture.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from impasto.shared.object_keys import digest
from impasto.shared.pictures import codec
from impasto.shared.pictures.codec import Picture
from impasto.shared.spec import JobSpec
from impasto.workers import images
from impasto.workers.engine.objective.balance import Factors, explicit
from impasto.workers.engine.objective.objective import Losses
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.pyramid import Level, Style
from impasto.workers.engine.render.render import Progress

LINK = "optimizer.link"  # in the state, beside the image as the engine's optimisers are


class Chain:
    """The loop's `Stepped`. Its plan's learning_rate is the milliseconds that an iteration takes.

    The first step looks at the start, as the engine's render does; each other makes a link.
    """

    device = torch.device("cpu")
    pass_bytes, spare_bytes = 1, 0

    def __init__(self, plan: Plan, content: Tensor, styles: Sequence[Style]) -> None:
        self.plan = plan
        self._size = content.shape[:2]
        self.progress = self._at(0, Losses(*[np.nan] * 4), 0.0)
        self._link = first(plan.seed, content.numpy(), styles[0].picture.numpy())
        self._is_started = False

    @property
    def batch_key(self) -> tuple[int, ...]:
        return (*self._size, round(self.plan.learning_rate))

    @property
    def iteration(self) -> int:
        return self.progress.iteration

    @property
    def is_finished(self) -> bool:
        return self._is_started and self.iteration >= self.plan.iterations

    def weights(self) -> Mapping[str, float | Mapping[str, float]]:
        return explicit(self.plan)

    def release(self) -> None:
        """There is nothing."""

    def image(self) -> Tensor:
        return torch.from_numpy(picture(self._link, *self._size))

    def snapshot(self) -> Callable[[], Tensor]:
        image = self.image()
        return lambda: image

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "iteration": torch.tensor(self.iteration),
            "losses": torch.tensor(self.progress.losses, dtype=torch.float64),
            "image": self.image(),
            LINK: torch.tensor(list(self._link), dtype=torch.uint8),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        losses = Losses(*state["losses"].tolist())
        self.progress = self._at(int(state["iteration"]), losses, 0.0)
        self._is_started = bool(np.isfinite(losses.total))
        if LINK in state:
            self._link = bytes(state[LINK].tolist())
        else:  # whoever keeps only the picture has to begin from it
            self._link = hashlib.sha256(state["image"].numpy().tobytes()).digest()

    @staticmethod
    def step_together(
        renders: Sequence["Chain"],
        *,
        budget_bytes: int | None = None,  # noqa: ARG004  # a link takes none
        check: Callable[[], None] = lambda: None,
    ) -> list[Exception | None]:
        check()
        began = time.perf_counter()
        time.sleep(renders[0].plan.learning_rate / 1000)
        for render in renders:
            render._step(time.perf_counter() - began)
        return [None] * len(renders)

    def _step(self, seconds: float) -> None:
        iteration = self.iteration + (1 if self._is_started else 0)
        if self._is_started:
            self._link = following(self._link, iteration)
        self._is_started = True
        total = 1 + self._link[0] / 256
        self.progress = self._at(iteration, Losses(total, total / 2, total / 2, 0.0), seconds)

    def _at(self, iteration: int, losses: Losses, seconds: float) -> Progress:
        """Every link is the picture."""
        level = Level(1, *self._size, Factors(1.0, 1.0, 0.0))
        return Progress(iteration, self.plan.iterations, losses, seconds, iteration, losses, level)


def first(seed: int, content: Picture, style: Picture) -> bytes:
    """The link that a render starts from."""
    return hashlib.sha256(b"%d" % seed + content.tobytes() + style.tobytes()).digest()


def following(link: bytes, iteration: int) -> bytes:
    return hashlib.sha256(link + b"%d" % iteration).digest()


def picture(link: bytes, height: int, width: int) -> images.Rendered:
    """The picture of a link, (H, W, 3)."""
    levels = hashlib.shake_256(link).digest(height * width * 3)
    return np.frombuffer(levels, np.uint8).reshape(height, width, 3).astype(np.float32)


def undisturbed(spec: JobSpec, content: bytes, style: bytes) -> str:
    """The digest of the file that a render gives which nothing came between."""
    scaled = codec.decode(content, spec.size).picture
    link = first(spec.seed, scaled, codec.decode(style, spec.style_side).picture)
    for iteration in range(1, spec.iterations + 1):
        link = following(link, iteration)
    height, width, _ = scaled.shape
    return digest(images.encode(picture(link, height, width), spec.format))
