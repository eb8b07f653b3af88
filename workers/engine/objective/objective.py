"""What a render minimises, and the direction in which it grows."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..device import operators
from ..device.alignment import dot
from ..device.graphs import StreamFork, parallel_streams
from ..layers import CHANNELS, DTYPES, layer_of
from ..network.passage import NetworkPass
from ..network.strips import blocks
from ..network.vgg import Vgg
from ..plan import Plan
from .losses import (
    add_content_gradient,
    content_loss,
    gram_sum,
    style_loss,
    style_losses,
    tv_loss,
)
from .regions import Region, RegionGrams

TINY = 1e-30  # keeps a gradient of zeros from being divided by zero


class Losses(NamedTuple):
    """total = content_weight * content + style_weight * style + tv_weight * tv."""

    total: float
    content: float
    style: float
    tv: float


class LayerLosses(NamedTuple):
    """What each layer, as `4_2`, loses by itself, without any factor."""

    content: Mapping[str, float]
    style: Mapping[str, float]


class Objective:
    """The report's loss of an image, against targets that are computed once.

    content: (1, 3, H, W), float32, 0..255; its size is the canvas. Kept until its features are.
    Source: Gatys et al. 2015, eq. 7; several styles add up by their shares. Regions are guided
    Grams: Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style Transfer",
    arXiv:1611.07865, eq. 5, with the mask averaged over what a position covers.
    """

    def __init__(self, plan: Plan, vgg: Vgg, content: Tensor, regions: Sequence[Region]) -> None:
        self.plan = plan
        self.vgg = vgg
        self.canvas = content
        sizes = blocks(self.layers, *content.shape[-2:])
        self._sizes = {layer: (b.height, b.width) for b in sizes for layer in b.layers}
        self._content = {layer_of(name): w for name, w in plan.content_layers.items()}
        self._style = {layer_of(name): w for name, w in plan.style_layers.items()}
        self._regions = [RegionGrams(region, self._style, self._sizes) for region in regions]
        each = [(w, region, layer) for region in self._regions for layer, w in self._style.items()]
        self._weights = content.new_tensor([w * region.share for w, region, _ in each])
        self._residual = content.new_zeros(())  # of the style loss, that no image is without
        for weight, region, layer in each:
            self._residual += weight * region.residual_losses[layer]
        self._targets: dict[str, Tensor] = {}  # content features
        self._has_targets = False  # a pass that was given up half way leaves them incomplete
        self._clear()

    @property
    def layers(self) -> set[str]:
        """The layers that it listens to, as `4_2`."""
        return {layer_of(name) for name in (*self.plan.content_layers, *self.plan.style_layers)}

    def style_energies(self) -> dict[str, float]:
        """For each layer, the style loss of Grams of nothing."""
        return self._by_style_layer(lambda region, layer: region.targets[layer])

    def content_losses_of(self, difference: float) -> dict[str, float]:
        """For each layer, the content loss of features that are all off by so much."""
        return {
            layer: math.prod(self._sizes[layer]) * CHANNELS[layer][1] * difference**2 / 2
            for layer in self._content
        }

    def _by_style_layer(self, gram: "Callable[[RegionGrams, str], Tensor]") -> dict[str, float]:
        """The style loss of each layer, of what there is of each region."""
        return {
            layer: float(sum(r.share * style_loss(gram(r, layer)) for r in self._regions))
            for layer in self._style
        }

    def begin(self, image: Tensor, check: Callable[[], None]) -> None:
        """Before the passage of an image, (3, H, W). `check` as in `evaluate`."""
        self._clear()
        if self._has_targets or not self._content:
            return
        # Most renders start from the content, whose features are those of their first evaluation.
        self._is_learning = torch.equal(image, self.canvas[0])
        for layer in self._content:
            shape = (*self._sizes[layer], CHANNELS[layer][1])
            dtype = DTYPES[self.plan.precision]
            self._targets[layer] = torch.empty(shape, dtype=dtype, device=self.vgg.device)
        if not self._is_learning:
            NetworkPass(
                self.vgg,
                self.canvas,
                tuple(self._content),
                _Recorder(self._targets),
                pooling=self.plan.pooling,
                precision=self.plan.precision,
                is_forward_only=True,
                check=check,
            ).forward()

    def on_features(self, layer: str, features: Tensor, top: int) -> None:
        if layer in self._content:
            target = self._targets[layer][top : top + len(features)]
            if self._is_learning:
                target.copy_(features)
            self._add(self._content_sums, layer, content_loss(features, target))
        if layer in self._style:
            for region in self._regions:
                flat = region.masked(layer, features, top)
                self._add(region.sums, layer, gram_sum(flat))

    def add_gradient(self, layer: str, features: Tensor, gradient: Tensor, top: int) -> None:
        if layer in self._content:
            target = self._targets[layer][top : top + len(features)]
            add_content_gradient(gradient, features, target, self._factors[layer])
        if layer in self._style:
            for region in self._regions:
                region.add_gradient(layer, features, gradient, top)

    def _content_loss(self) -> Tensor:
        """The content loss; keeps what `add_gradient` needs."""
        if not self._has_targets:
            self._has_targets = True
            del self.canvas  # as large as an image, and asked for no more
        loss = self._residual.new_zeros(())
        for layer, weight in self._content.items():
            found = self._content_sums[layer]
            loss = torch.add(loss, found, alpha=weight)
            self._factors[layer] = self.plan.content_weight * weight
            if self.plan.normalize_gradients:  # |F - P|, squared, is twice the loss
                self._factors[layer] /= (2 * found).sqrt() + TINY
        return loss

    def _tv_loss(self, image: Tensor, gradient: Tensor) -> Tensor:
        """The total variation; its gradient, weighted, is written into `gradient`."""
        if not self.plan.tv_weight:
            gradient.zero_()
            return tv_loss(image)
        loss = tv_loss(image, gradient)
        if self.plan.normalize_gradients:
            gradient /= gradient.norm() + TINY
        gradient *= self.plan.tv_weight
        return loss

    def _total(self, content: Tensor, style: Tensor, tv: Tensor) -> Tensor:
        """(4,), as in `Losses`."""
        plan = self.plan
        total = plan.content_weight * content + plan.style_weight * style + plan.tv_weight * tv
        return torch.stack((total, content, style, tv))

    def _clear(self) -> None:
        self._is_learning = False
        self._content_sums: dict[str, Tensor] = {}
        self._factors: dict[str, Tensor | float] = {}
        for region in self._regions:
            region.clear()

    @staticmethod
    def _add(sums: dict[str, Tensor], layer: str, more: Tensor) -> None:
        sums[layer] = sums[layer] + more if layer in sums else more


def evaluate(
    objectives: Sequence[Objective],
    images: Tensor,
    *,
    budget_bytes: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Iterator[Tensor]:
    """The losses of images, and then the gradients of their totals, in one passage.

    `losses, gradients = evaluate(objectives, images)`

    objectives: one for each image, of one network, pooling and precision.
    images: (B, 3, H, W), float32, 0..255.
    budget_bytes: what features and gradients may take; less memory is more time, and the same
    result. check: called now and then; may raise.
    Yields (B, 4), each in the order of `Losses`, and (B, 3, H, W); on the device, not waited for.
    """
    plan = objectives[0].plan
    for objective, image in zip(objectives, images, strict=True):
        objective.begin(image, check)
    passage = NetworkPass(
        objectives[0].vgg,
        images,
        set().union(*(objective.layers for objective in objectives)),
        _Batch(objectives),
        pooling=plan.pooling,
        precision=plan.precision,
        budget_bytes=budget_bytes,
        check=check,
    )
    passage.forward()
    gradients = torch.empty_like(images)
    yield _losses(objectives, images, gradients)
    passage.backward(gradients)
    yield gradients


def look(objective: Objective, image: Tensor) -> Tensor:
    """The losses of an image, (1, 3, H, W), alone: (4,), as in `Losses`.

    A pass forward costs a third of an evaluation, and keeps nothing.
    """
    plan = objective.plan
    objective.begin(image[0], lambda: None)
    passage = NetworkPass(
        objective.vgg,
        image,
        objective.layers,
        _Batch([objective]),
        pooling=plan.pooling,
        precision=plan.precision,
        is_forward_only=True,
    )
    with objective.vgg.arena.temporary():
        passage.forward()
        return _losses([objective], image, torch.empty_like(image))[0]


def look_by_layer(objective: Objective, image: Tensor) -> LayerLosses:
    """As `look`, layer by layer; waits for the device."""
    look(objective, image)
    return LayerLosses(
        {layer: float(loss) for layer, loss in objective._content_sums.items()},
        objective._by_style_layer(lambda r, layer: r.sums[layer] - r.targets[layer]),
    )


def _losses(objectives: Sequence[Objective], images: Tensor, gradients: Tensor) -> Tensor:
    """After the forward pass: the losses, (B, 4). Keeps what `add_gradient` needs.

    Those of tv, weighted, are written into the gradients.
    """
    tvs = []
    with StreamFork(images.device) as beside:
        for objective, *its in zip(objectives, images, gradients, strict=True):
            with beside.branch():
                tvs.append(objective._tv_loss(*its))
        styles = _style_losses(objectives)
    each = zip(objectives, styles, tvs, strict=True)
    return torch.stack(
        [o._total(o._content_loss(), *its) for o, *its in parallel_streams(each, images.device)]
    )


def _style_losses(objectives: Sequence[Objective]) -> list[Tensor]:
    """The style loss of each. All Grams at once: each alone would take a GPU as long."""
    guided = [(o, region, layer) for o in objectives for region in o._regions for layer in o._style]
    if not guided:
        return [objective._residual for objective in objectives]
    grams = [region.sums[layer] for _, region, layer in guided]
    operators.divide(grams, [region.positions[layer] for _, region, layer in guided])
    targets = [region.targets[layer] for _, region, layer in guided]
    differences = operators.differences(grams, targets)
    counts = [len(objective._weights) for objective in objectives]
    losses = torch.split(style_losses(differences), counts)
    factors = []
    for (objective, region, layer), gram in zip(guided, grams, strict=True):
        weight = objective.plan.style_weight * objective._style[layer] * region.share
        factors.append(weight / region.positions[layer] / len(gram) ** 2)
    scaled = operators.scaled(differences, factors)
    for i, (objective, region, layer) in enumerate(guided):
        if objective.plan.normalize_gradients:
            # |F S|, squared, is tr(S G S) over the positions: known before the backward pass.
            whole = differences[i] * region.share
            size = ((whole @ grams[i]) * whole).sum().clamp_min(0) / region.positions[layer]
            scaled[i].div_(size.sqrt() / len(whole) ** 2 + TINY)
    dtype = DTYPES[objectives[0].plan.precision]
    rounded = [torch.empty_like(each, dtype=dtype) for each in scaled]
    operators.copy(rounded, scaled)
    for (_, region, layer), each in zip(guided, rounded, strict=True):
        region.scaled[layer] = each
    return [
        objective._residual + dot(its, objective._weights)
        for objective, its in zip(objectives, losses, strict=True)
    ]


class _Batch:
    """The objectives of a batch, each of which listens to its own image."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._objectives = objectives

    def on_features(self, index: int, layer: str, features: Tensor, top: int) -> None:
        self._objectives[index].on_features(layer, features, top)

    def add_gradient(
        self, index: int, layer: str, features: Tensor, gradient: Tensor, top: int
    ) -> None:
        self._objectives[index].add_gradient(layer, features, gradient, top)


class _Recorder:
    """Keeps the features that it is given."""

    def __init__(self, kept: Mapping[str, Tensor]) -> None:
        self._kept = kept

    def on_features(self, _index: int, layer: str, features: Tensor, top: int) -> None:
        if layer in self._kept:
            self._kept[layer][top : top + len(features)].copy_(features)

    def add_gradient(self, *_: object) -> None:
        raise AssertionError("features are recorded on the way forward")
