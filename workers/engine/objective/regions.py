"""The parts of a canvas that have styles of their own."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import PlanError
from .losses import add_style_gradient, style_loss
from .styles import StyleTarget, guides


class Region(NamedTuple):
    """The styles of one part of the canvas.

    styles: targets with their shares of the whole.
    mask: (H, W), 0..1, of the canvas's size; None for all of it.
    """

    styles: Sequence[tuple[StyleTarget, float]]
    mask: Tensor | None = None


class RegionGrams:
    """A region's Grams, for one evaluation.

    Of several styles it needs to know one target alone: by shares, sum |G - A_i|^2 is
    |G - A|^2, where A is their mean, and a rest that does not depend on G.
    share: of the whole. targets: (C, C).
    residual_losses: (), the style loss that is left at the target.
    positions: how many positions of a layer it has; those at its edge count in part.
    """

    def __init__(
        self, region: Region, layers: Iterable[str], sizes: Mapping[str, tuple[int, int]]
    ) -> None:
        self.share = sum(share for _, share in region.styles)
        self.targets: dict[str, Tensor] = {}
        self.residual_losses: dict[str, Tensor | float] = {}
        self.positions: dict[str, float] = {}
        self._guides: dict[str, Tensor] = {}  # (h, w, 1), a layer's part of the mask
        for layer in layers:
            self.targets[layer], self.residual_losses[layer] = _mean(
                [(target.grams[layer], share) for target, share in region.styles]
            )
            height, width = sizes[layer]
            self.positions[layer] = height * width
            if region.mask is not None:
                if not region.mask.any():
                    raise PlanError("a mask is black everywhere, accepted: some of it white")
                self._guides |= guides(region.mask, {layer: (height, width)})
                self.positions[layer] = float(self._guides[layer].square().sum())
        self.clear()

    def clear(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.scaled: dict[str, Tensor] = {}  # as `add_style_gradient` takes them

    def masked(self, layer: str, features: Tensor, top: int) -> Tensor:
        """(M, C): the features of some rows, dimmed where the mask is."""
        if layer in self._guides:
            features = features * self._guides[layer][top : top + len(features)]
        return features.flatten(0, 1)

    def add_gradient(self, layer: str, features: Tensor, gradient: Tensor, top: int) -> None:
        scaled = self.scaled[layer]
        if layer not in self._guides:
            flat = gradient.flatten(0, 1)
            add_style_gradient(flat, features.flatten(0, 1), scaled)
            return
        mine = torch.zeros_like(gradient)
        add_style_gradient(mine.flatten(0, 1), self.masked(layer, features, top), scaled)
        gradient += mine * self._guides[layer][top : top + len(features)]


def _mean(grams: Sequence[tuple[Tensor, float]]) -> tuple[Tensor, Tensor | float]:
    """The mean by shares, and what they themselves lose at it."""
    (first, _), *others = grams
    whole = sum(share for _, share in grams)
    if not others or not whole:
        return first, 0.0
    mean = torch.zeros_like(first)
    for gram, share in grams:
        mean.add_(gram, alpha=share / whole)
    rest = torch.stack([share * style_loss(gram - mean) for gram, share in grams]).sum()
    return mean, rest
