"""One pass of images through the network, forward and backward, within a budget.

What lies between blocks is kept: a tenth of all features. A block's own features are kept too if
the budget allows. Else the block is passed in strips, and in the backward pass each strip is
computed once more, down to the last layer that is tapped. Of those behind it the gradient needs
only where their ReLUs let something through, and these *masks* are kept: a bit a feature. Both
give the same gradients: a Gram is a sum over positions.
"""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from itertools import islice
from typing import Protocol

from torch import Tensor

from ..device.graphs import StreamFork, parallel_streams
from ..layers import DTYPES, Pooling, Precision
from . import relu_mask
from .buffers import BufferPlan
from .convolution import Convolution, mask
from .pools import pool, unpool
from .strips import Strip, blocks, plan_strips
from .vgg import Vgg

FORWARD_ONLY_BYTES = 2**23  # for the strips of a pass that has no backward


class Listener(Protocol):
    """Who taps the layers.

    features, gradient: (rows, W, C) of image `index`, from the row `top` of the layer on.
    """

    def on_features(self, index: int, layer: str, features: Tensor, top: int) -> None:
        """Called once for each row of each tapped layer, in the forward pass."""

    def add_gradient(
        self, index: int, layer: str, features: Tensor, gradient: Tensor, top: int
    ) -> None:
        """Adds to the gradient that of what is taken from this layer, in the backward pass."""


class NetworkPass:
    """The pass of a batch of images of one size, once forward and at most once backward.

    taps: the layers at which `listener` is called, as `4_2`.
    budget_bytes: what features and gradients may take; None for whatever they need.
    is_forward_only: there will be no backward pass, and so no more is kept than a strip.
    check: called between strips; may raise, and so ends the passage.
    """

    def __init__(
        self,
        vgg: Vgg,
        images: Tensor,
        taps: Collection[str],
        listener: Listener,
        *,
        pooling: Pooling,
        precision: Precision,
        budget_bytes: int | None = None,
        is_forward_only: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._vgg = vgg
        self._images = images
        self._taps = taps
        self._listener = listener
        self._pooling = pooling
        self._precision = precision
        self._check = check
        self._is_forward_only = is_forward_only
        self._blocks = blocks(taps, *images.shape[-2:])
        if is_forward_only:
            self._strips = [block.fitting(FORWARD_ONLY_BYTES, precision) for block in self._blocks]
        else:
            self._strips = plan_strips(self._blocks, len(images), precision, budget_bytes)
        self._is_kept = [len(strips) == 1 for strips in self._strips]
        self._buffers = BufferPlan(
            vgg.arena, self._blocks, self._is_kept, len(images), DTYPES[precision]
        )
        self._inputs: list[Tensor] = [_channels_last(images)]
        self._kept: dict[int, list[Tensor]] = {}
        self._beside = StreamFork(images.device)  # what listens does not hold up the forward pass

    @property
    def is_whole(self) -> bool:
        """Every block's features are kept."""
        return all(self._is_kept)

    def forward(self) -> None:
        """Passes the images, and gives each tapped layer to the listener."""
        with self._beside:
            for k in range(len(self._blocks)):
                pooled = None
                if k + 1 < len(self._blocks):
                    pooled = self._buffers.input(k + 1)
                    self._inputs.append(pooled)
                kept = list[Tensor]()
                for strip in self._strips[k]:
                    for i, y in enumerate(self._forward(k, strip)):
                        self._emit(k, i, strip, y[:, strip.inside], pooled)
                        if self._is_kept[k] and not self._is_forward_only:
                            kept.append(y)
                    self._tick()
                if kept:
                    self._kept[k] = kept

    def backward(self, gradient: Tensor) -> None:
        """Adds the gradient of the images, (B, 3, H, W), float32, to what is there."""
        above: Tensor | None = None  # the gradient of the next block's input
        for k in reversed(range(len(self._blocks))):
            below = _channels_last(gradient) if k == 0 else None
            if k > 0 and not self._is_kept[k]:
                below = self._buffers.input_gradient(k).zero_()
            for strip in self._strips[k]:
                features = self._kept.pop(k, None)
                if features is None:
                    features = list(islice(self._forward(k, strip), self._blocks[k].tapped))
                below = self._backward(k, strip, features, above, below)
                self._tick()
            above = below

    def _tick(self) -> None:
        """Between two strips."""
        self._vgg.progress_counter += 1
        self._check()

    def _forward(self, k: int, strip: Strip) -> Iterator[Tensor]:
        """The features of a strip, layer by layer, each to be used before the next is asked for."""
        y = None
        for i, (_, convolution) in enumerate(self._convolutions(k)):
            x = self._inputs[k][:, strip.seen] if y is None else y
            place = partial(self._buffers.features, k, i, strip.rows, convolution.outputs)
            y = convolution.forward(x, place)
            yield y

    def _emit(self, k: int, i: int, strip: Strip, y: Tensor, pooled: Tensor | None) -> None:
        """Hands on what is needed of a strip's own rows of a layer, before they are overwritten."""
        block = self._blocks[k]
        layer, rows = block.layers[i], None
        if layer in self._taps:
            for b in range(len(y)):
                with self._beside.branch():
                    self._listener.on_features(b, layer, y[b], strip.core.start)
        if pooled is not None and i + 1 == len(block.layers):
            rows = pooled[:, _halved(strip.core)]
            pool(y, rows, self._pooling)
        if i >= block.tapped and not self._is_kept[k] and not self._is_forward_only:
            if rows is not None and self._pooling == "max":  # the gradient is that of the largest
                largest = self._buffers.features(k, i + 1, y.shape[1], block.channels)
                unpool(y, rows, largest, self._pooling)
                y = largest
            relu_mask.pack(y, self._buffers.relu_masks(k, i)[:, strip.core])

    def _backward(
        self,
        k: int,
        strip: Strip,
        features: list[Tensor],
        above: Tensor | None,
        below: Tensor | None,
    ) -> Tensor:
        """The gradient of a strip's rows, brought to the block's input.

        features: emptied. above: of the pooled output; None behind the deepest layer. below: of
        the input, which is added to; None for what a kept block gives, which is all that it gets.
        """
        block, inside, top = self._blocks[k], strip.inside, strip.core.start
        gradient = self._buffers.features(k, len(block.layers), strip.rows, block.channels)
        if above is None or not self._is_kept[k]:
            gradient.zero_()
        for i, (layer, convolution) in reversed(list(enumerate(self._convolutions(k)))):
            if i < len(features):
                y = features.pop()
            else:
                y = self._buffers.features(k, i, strip.rows, block.channels)
                relu_mask.unpack(self._buffers.relu_masks(k, i)[:, strip.seen], y)
            if above is not None and i + 1 == len(block.layers):
                rows = above[:, _halved(strip.core)]
                unpool(y[:, inside], rows, gradient[:, inside], self._pooling)
            if layer in self._taps:
                for b in parallel_streams(range(len(y)), y.device):
                    self._listener.add_gradient(b, layer, y[b, inside], gradient[b, inside], top)
            mask(gradient, y)
            del y  # what is convolved may have its memory, which is in the caches
            place = partial(self._buffers.features, k, i, strip.rows, convolution.inputs)
            gradient = convolution.backward(gradient, place)
        if below is None:
            return gradient
        below[:, strip.seen] += gradient
        return below

    def _convolutions(self, k: int) -> Iterator[tuple[str, Convolution]]:
        block = self._blocks[k]
        size = block.height, block.width
        for layer in block.layers:
            yield layer, self._vgg.convolution(layer, self._precision, *size)


def _halved(rows: slice) -> slice:
    return slice(rows.start // 2, rows.stop // 2)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)
