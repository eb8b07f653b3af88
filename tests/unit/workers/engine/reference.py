"""The network and the report's losses once more: torch's own layers and autograd, in float64.

Where an activation is within rounding of 0, float32 and float64 may disagree about its ReLU's
switch, and gradients then differ visibly. The tests' seeds and sizes are such that they do not.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from impasto.workers.engine.layers import Pooling
from impasto.workers.engine.network.vgg import Weights
from impasto.workers.engine.objective.objective import Losses
from impasto.workers.engine.plan import Plan

DEPTHS = (2, 2, 4, 4, 4)  # convolutions between two pools, as the network's authors print them
NAMES = [f"{b}_{i}" for b, depth in enumerate(DEPTHS, 1) for i in range(1, depth + 1)]


@dataclass(frozen=True)
class Part:
    """Style images, (1, 3, H, W), with their shares; where they apply, (H, W), None: everywhere."""

    styles: Sequence[tuple[Tensor, float]]
    mask: Tensor | None = None


def features(
    weights: Weights, image: Tensor, layers: Collection[str], pooling: Pooling = "avg"
) -> dict[str, Tensor]:
    """Layer, as `4_2`, to (B, C, H, W), float64; the gradient flows."""
    x = image.double() - weights.mean.double().view(1, 3, 1, 1)
    found: dict[str, Tensor] = {}
    if not layers:
        return found
    for name in NAMES[: 1 + max(map(NAMES.index, layers))]:
        if name.endswith("_1") and name != "1_1":
            x = functional.max_pool2d(x, 2) if pooling == "max" else functional.avg_pool2d(x, 2)
        kernel, bias = (weights.tensors[f"conv{name}.{kind}"] for kind in ("weight", "bias"))
        x = functional.conv2d(x, kernel.double(), bias.double(), padding=1).relu()
        if name in layers:
            found[name] = x
    return found


def evaluate(
    weights: Weights, plan: Plan, canvas: Tensor, parts: Sequence[Part], image: Tensor
) -> tuple[Losses, Tensor]:
    """The losses of an image, (1, 3, H, W), and the gradient of their total, float64."""
    content_layers, style_layers = _layers(plan.content_layers), _layers(plan.style_layers)
    x = image.double().requires_grad_()
    f = features(weights, x, {*content_layers, *style_layers}, plan.pooling)
    terms: list[tuple[str, float, Tensor]] = []  # layer, all its factors, its loss
    content, style = torch.zeros(2, dtype=torch.float64)
    if content_layers:
        p = features(weights, canvas, content_layers, plan.pooling)
        for layer, weight in content_layers.items():
            loss = (f[layer] - p[layer]).square().sum() / 2
            content = content + weight * loss
            terms.append((layer, plan.content_weight * weight, loss))
    for layer, weight in style_layers.items():
        for part in parts:
            g = _gram(f[layer], part.mask)
            targets = [
                (_gram(features(weights, picture, [layer], plan.pooling)[layer]), share)
                for picture, share in part.styles
            ]
            loss = sum(share * (g - a).square().sum() / (4 * len(g) ** 2) for a, share in targets)
            style = style + weight * loss
            terms.append((layer, plan.style_weight * weight, loss))
    tv = sum(x.diff(dim=dim).square().sum() for dim in (-1, -2))
    total = plan.content_weight * content + plan.style_weight * style + plan.tv_weight * tv
    goal = total
    if plan.normalize_gradients:
        (slope,) = torch.autograd.grad(tv, x, retain_graph=True)
        goal = plan.tv_weight * (x * (slope / slope.norm())).sum()
        for layer, weight, loss in terms:
            (slope,) = torch.autograd.grad(loss, f[layer], retain_graph=True)
            goal = goal + weight * (f[layer] * (slope / slope.norm())).sum()
    (gradient,) = torch.autograd.grad(goal, x)
    return Losses(*(term.item() for term in (total, content, style, tv))), gradient


def error(found: Tensor, expected: Tensor) -> float:
    """How far it is off, as a share of what is expected."""
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def _layers(named: Mapping[str, float]) -> dict[str, float]:
    return {name.removeprefix("relu").removeprefix("conv"): w for name, w in named.items()}


def _gram(f: Tensor, mask: Tensor | None = None) -> Tensor:
    """Of one image, averaged over its positions, or over those under the mask."""
    _, channels, height, width = f.shape
    if mask is None:
        flat = f.view(channels, height * width)
        return flat @ flat.T / (height * width)
    guide = functional.adaptive_avg_pool2d(mask.double()[None], (height, width))
    flat = (f * guide).view(channels, height * width)
    return flat @ flat.T / guide.square().sum()
