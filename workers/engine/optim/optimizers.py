"""What ways to move images down their gradients have in common: one evaluation to a move.

An optimiser is the memory of one image. Images of one size are moved together, whatever is
remembered of each, and nothing here waits for the device. An optimiser knows no bounds: the caller
may project what it gives, because displacements are read from the images that are shown.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

TINY = 1e-30  # keeps a gradient of zeros from being divided by zero
SHORTENED = 1 / 4  # of a step that was taken back, the length of the next one


class Evaluation(NamedTuple):
    """Images and the gradients there, (B, 3, H, W) each, any float dtype and device."""

    images: Tensor
    gradients: Tensor

    @staticmethod
    def of(evaluations: "Collection[Evaluation]") -> "Evaluation":
        """A batch of them; one alone is that itself."""
        return Evaluation(*(stacked(each) for each in zip(*evaluations, strict=True)))

    def split(self) -> "list[Evaluation]":
        """Of each image alone, (1, 3, H, W)."""
        return [Evaluation(*each) for each in zip(*(torch.split(x, 1) for x in self), strict=True)]


class Optimizer(ABC):
    """What is remembered of one image's way, and can be carried to another process."""

    is_monotone: ClassVar[bool]  # no image is left for one that is worse

    @staticmethod
    @abstractmethod
    def update(
        optimizers: Sequence[Any],
        before: Sequence[Evaluation | None],
        here: Evaluation,
        is_worse: Sequence[Tensor],
    ) -> list[Tensor]:
        """Remembers what an evaluation of images tells, each in the optimiser at its place.

        optimizers: of one class. before: where each image was moved from, B = 1; None at its start.
        is_worse: (), bool, for each image, whether its loss is above the least so far.
        Returns (), bool, for each image: True if the next step goes on from here, False if this one
        is taken back, and the next step begins where it began.
        No evaluation is modified.
        """

    @staticmethod
    @abstractmethod
    def step(optimizers: Sequence[Any], here: Evaluation) -> Tensor:
        """The next images, (B, 3, H, W), after `update`. Changes nothing.

        here: the evaluations that `update` said to go on from.
        """

    @abstractmethod
    def growth_bytes(self, image: Tensor) -> int:
        """How much more its state will take in later steps of such an image."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that the next steps depend on, beside the last evaluation: a copy."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Goes on exactly where `state` was taken: in float32 on the CPU, to the bit."""


def stacked(images: Sequence[Tensor]) -> Tensor:
    """A batch of images; one alone is that itself."""
    return images[0] if len(images) == 1 else torch.cat(tuple(images))


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """(B, 1, 1, 1), written by the device: a copy from the host would be waited for."""
    return torch.stack([like.new_full((1, 1, 1), value) for value in values])


def exact_dtype(like: Tensor) -> torch.dtype:
    """float64, where there is."""
    return torch.float32 if like.device.type == "mps" else torch.float64
