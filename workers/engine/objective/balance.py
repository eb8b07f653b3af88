"""How much of the style: one scale for every pair, size and choice of layers.

A layer's loss depends on the network, the size and the two pictures by orders of magnitude. So each
is counted as a share: the content's of what the painting would lose as a picture, the style's of
what the photograph does. Either is 0 as the one input and 1 as the other.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import Diverged
from ..layers import layer_of
from ..network.vgg import Vgg
from ..plan import Plan
from .objective import Objective, look_by_layer
from .regions import Region

# At half strength, where both have their say, and at so many px; chosen by eye. On a larger canvas
# the same layers hold on to finer parts of the photograph: what they keep must weigh less there.
STYLE_OVER_CONTENT, AT_SIZE, WITH_SIZE = 6.0, 512, 1.0
# Full strength is 34 times the content: with more, pairs lose it and gain no texture.
STRENGTH_POWER = 1.25
VARIATION_MIN = 50.0  # grey levels squared a pixel: a painting that is nearly flat
# Of what a layer holds: two pictures that are one in it must not give it all the weight.
STYLE_SHARE_MIN = 1e-2
FEATURE_MIN = 1e-2  # root mean square of a layer's difference that counts as none


class Factors(NamedTuple):
    """Of the three losses at one size of a render."""

    content_weight: float
    style_weight: float
    tv_weight: float


def factors(plan: Plan, height: int, width: int, shrink: float, variation: float) -> Factors:
    """Those of a canvas that is `shrink` times smaller than the last.

    By strength s, at 512 px, the weights are 1 for the content's share, 6 a^2 for the style's and
    6 a `tv_weight` for the total variation's, which counts as a share of the paintings' own, with
    a = (2 s)^1.25; more of the latter two on a larger last canvas. Else they are the plan's; the
    content loss is a sum over positions, of which there are fewer on a smaller canvas: one balance
    at each size brings the next one 1 % lower after 50 iterations (256 px, eight pairs).

    variation: of the paintings, grey levels squared a pixel.
    """
    if plan.strength is None:
        return Factors(plan.content_weight, plan.style_weight / shrink**2, plan.tv_weight)
    long_side = max(height, width) * shrink
    amount = (2 * plan.strength) ** STRENGTH_POWER
    style = STYLE_OVER_CONTENT * amount * (long_side / AT_SIZE) ** WITH_SIZE
    variation = max(variation, VARIATION_MIN) * height * width
    return Factors(
        content_weight=1.0,
        style_weight=style * amount,
        tv_weight=style * plan.tv_weight / variation,
    )


def balanced(
    plan: Plan,
    vgg: Vgg,
    content: Tensor,
    paintings: Iterable[tuple[Tensor, float]],
    regions: Sequence[Region],
) -> Plan:
    """A plan by strength with layers whose losses are shares. Costs a few passes forward.

    content: (1, 3, H, W), the canvas. paintings: each of the canvas's size, with its share of 1.
    """
    bare = replace(plan, content_weight=1.0, style_weight=1.0, tv_weight=0.0)
    objective = Objective(bare, vgg, content, regions)
    of_photograph = look_by_layer(objective, content).style
    of_targets = objective.style_energies()
    of_painting: dict[str, float] = {}
    for painting, share in paintings if plan.content_layers else ():
        for layer, loss in look_by_layer(objective, painting).content.items():
            of_painting[layer] = of_painting.get(layer, 0.0) + loss * share
    for losses in (of_photograph, of_painting):
        for layer, loss in losses.items():
            if not math.isfinite(loss):
                raise Diverged(f"the loss of relu{layer} is {loss} before the first iteration")
    least = objective.content_losses_of(FEATURE_MIN)
    return replace(
        plan,
        content_layers={
            name: weight / max(of_painting[layer_of(name)], least[layer_of(name)])
            for name, weight in plan.content_layers.items()
        },
        style_layers={
            name: weight
            / max(
                of_photograph[layer_of(name)],
                STYLE_SHARE_MIN * of_targets[layer_of(name)],
                torch.finfo(torch.float32).tiny,
            )
            for name, weight in plan.style_layers.items()
        },
    )


def explicit(plan: Plan) -> Mapping[str, float | Mapping[str, float]]:
    """The weights of a plan as the report would name them: layers that add up to 1, content's 1."""
    layers = {"content": plan.content_layers, "style": plan.style_layers}
    sums = {name: sum(weights.values()) for name, weights in layers.items()}
    content_weight = plan.content_weight * sums["content"]
    unit = content_weight or 1.0
    return {
        "content_weight": content_weight / unit,
        "style_weight": plan.style_weight * sums["style"] / unit,
        "tv_weight": plan.tv_weight / unit,
        **{
            f"{name}_layers": {layer: w / sums[name] for layer, w in weights.items()}
            for name, weights in layers.items()
        },
    }
