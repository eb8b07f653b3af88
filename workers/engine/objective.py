"""What a render minimises, and the direction in which it grows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from workers.engine.losses import content_loss, gram, style_loss, tv_loss
from workers.engine.plan import Plan
from workers.engine.styles import StyleTarget
from workers.engine.vgg import Vgg


class Losses(NamedTuple):
    """total = content_weight * content + style_weight * style + tv_weight * tv."""

    total: float
    content: float
    style: float
    tv: float


class Objective:
    """The report's loss of an image, against targets that are computed once.

    content: (1, 3, H, W), of the canvas's size.
    styles: each with its share; the shares are scaled to add up to 1.
    Source: Gatys et al. 2015, eq. 7; several styles add up by their shares.
    """

    def __init__(
        self,
        plan: Plan,
        vgg: Vgg,
        content: Tensor,
        styles: Sequence[tuple[StyleTarget, float]],
    ) -> None:
        self._plan = plan
        self._vgg = vgg
        self._canvas = content
        self._content: dict[str, Tensor] = {}  # its features, once an image was looked at
        whole = sum(share for _, share in styles)
        self._styles = [(target.grams, share / whole) for target, share in styles]

    def evaluate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The losses of an image, and the gradient of their total.

        image: (1, 3, H, W), float32, 0..255.
        Returns (4,), in the order of `Losses`, and (1, 3, H, W); both on the device, not waited
        for: `Losses(*losses.tolist())` does.
        """
        image = image.detach().requires_grad_()
        plan = self._plan
        features = self._features(image, {**plan.content_layers, **plan.style_layers})
        if not self._content:
            self._content = self._content_features(image, features)
        losses = self._losses(image, features)
        (gradient,) = torch.autograd.grad(losses[0], image)
        return losses.detach(), gradient.contiguous()

    def _features(self, image: Tensor, layers: Mapping[str, float]) -> dict[str, Tensor]:
        return self._vgg.features(image, layers, self._plan.pooling, self._plan.precision)

    def _content_features(self, image: Tensor, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Most renders start from the content, and have its features at their first look.
        layers = self._plan.content_layers
        if not torch.equal(image, self._canvas):
            with torch.no_grad():
                return self._features(self._canvas, layers)
        return {layer: features[layer].detach() for layer in layers}

    def _losses(self, image: Tensor, features: Mapping[str, Tensor]) -> Tensor:
        plan = self._plan
        content = style = image.new_zeros(1)
        for layer, weight in plan.content_layers.items():
            content = content + weight * content_loss(features[layer], self._content[layer])
        for layer, weight in plan.style_layers.items():
            found = gram(features[layer])
            for grams, share in self._styles:
                style = style + weight * share * style_loss(found, grams[layer])
        tv = tv_loss(image)
        total = plan.content_weight * content + plan.style_weight * style + plan.tv_weight * tv
        return torch.cat((total, content, style, tv))
