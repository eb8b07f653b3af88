"""What others make by their own recipes, on our weights, an iteration at a time.

Written from the sources named at each, in their terms: their losses, factors, optimisers, sizes.
What differs from them is said. Images are (1, 3, H, W), RGB, 0..255; the content's size is the
canvas, the style's is that at which it is compared.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn, optim
from torch.nn import functional

from bench.vgg import PlainVgg

LAYER_WEIGHTS = {"relu1_1": 256, "relu2_1": 64, "relu3_1": 16, "relu4_1": 4, "relu5_1": 1}
CONTENT_LAYERS = ("relu4_2",)
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")  # of all three


class Recipe(Protocol):
    """step: one iteration. image: what its file would hold now. iterations: how many it makes."""

    iterations: int

    def step(self) -> object: ...
    def image(self) -> Tensor: ...


class NeuralStyle:
    """neural-style-pt: 1000 evaluations of L-BFGS from noise; content 5, style 100, tv 1e-3.

    Max pools, unclamped until saved. Source: github.com/ProGamerGov/neural-style-pt.
    """

    iterations = 1000
    content_weight, style_weight, tv_weight = 5.0, 100.0, 1e-3
    pooling = "max"

    def __init__(self, vgg: PlainVgg, content: Tensor, style: Tensor, seed: int = 0) -> None:
        self._vgg = vgg
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(content.shape, generator=generator) * 1e-3  # around the mean colour
        self._mean = vgg.mean.view(1, 3, 1, 1)
        self._pixels = nn.Parameter(noise.to(content.device))
        with torch.no_grad():
            self._content = self._features(content - self._mean)
            self._style = {
                name: self._gram(features)
                for name, features in self._features(style - self._mean).items()
            }
        # One evaluation a step: what was learned is kept from one to the next.
        self._optimizer = optim.LBFGS(
            [self._pixels], max_iter=1, tolerance_change=-1, tolerance_grad=-1
        )

    def step(self) -> None:
        self._optimizer.step(self._evaluate)

    def image(self) -> Tensor:
        return (self._pixels.detach() + self._mean).clamp(0, 255).cpu()

    def _evaluate(self) -> Tensor:
        self._optimizer.zero_grad()
        features, pixels = self._features(self._pixels), self._pixels
        loss = pixels.new_zeros(())
        for name in CONTENT_LAYERS:
            error = functional.mse_loss(features[name], self._content[name])
            loss = loss + self.content_weight * error
        for name in STYLE_LAYERS:
            error = functional.mse_loss(self._gram(features[name]), self._style[name])
            loss = loss + self.style_weight * error
        loss = loss + self.tv_weight * sum(pixels.diff(dim=dim).abs().sum() for dim in (2, 3))
        loss.backward()
        return loss

    def _features(self, pixels: Tensor) -> dict[str, Tensor]:
        layers = (*CONTENT_LAYERS, *STYLE_LAYERS)
        return self._vgg.features(pixels + self._mean, layers, self.pooling)

    @staticmethod
    def _gram(features: Tensor) -> Tensor:
        flat = features[0].flatten(1)
        return flat @ flat.T / flat.numel()


class StyleTransferPyTorch:
    """style-transfer-pytorch: Adam and averaged iterates over a pyramid of sqrt(2) from 128 px.

    1000 iterations at the first size, 500 at each other; content 0.015, tv 2; the style loss is
    the Wasserstein-2 distance of Gaussians, layers weighted 256 : 64 : 16 : 4 : 1; the first
    convolution repeats the border. Max pools, its default.

    It is made for torchvision's weights, whose features are smaller: those of ours are divided by
    `scale`, for without that its tv weight would vanish. iterations: the part of them that there is
    time for, at every size. Its square roots of matrices are Newton
    and Schulz's, with torch's autograd instead of a Lyapunov equation behind them.
    Source: github.com/crowsonkb/style-transfer-pytorch.
    """

    min_size = 128
    first_iterations, further_iterations = 1000, 500
    content_weight, tv_weight = 0.015, 2.0
    step_size, decay = 0.02, 0.99
    square_root_iterations, epsilon = 12, 1e-4

    # What torchvision's weights take has a standard deviation of some 0.225 of 0..1; ReLUs hand
    # that on from layer to layer, but for their biases.
    scale = 255 * 0.225

    def __init__(
        self, vgg: PlainVgg, content: Tensor, style: Tensor, iterations: float = 1.0
    ) -> None:
        self._vgg = vgg
        self.first_iterations = max(1, round(iterations * self.first_iterations))
        self.further_iterations = max(1, round(iterations * self.further_iterations))
        self._content, self._style = content / 255, style / 255
        self._sizes = self._gen_sizes(max(content.shape))
        self.iterations = self.first_iterations
        self.iterations += self.further_iterations * (len(self._sizes) - 1)
        self._steps = self._run()

    def step(self) -> None:
        next(self._steps)

    def image(self) -> Tensor:
        """Of the size that it is at."""
        return 255 * self._average.value().clamp(0, 1).cpu()

    def _gen_sizes(self, end: int) -> list[int]:
        sizes, size, number = set(), end, 0
        while size >= min(self.min_size, end):
            sizes.add(size)
            number += 1
            size = round(end / 2 ** (number / 2))
        return sorted(sizes)

    def _run(self) -> Iterator[None]:
        moments: tuple[Tensor, Tensor, Tensor] | None = None
        image = self._content
        for size in self._sizes:
            content = _fitting(self._content, size)
            image = _stretched(image, content.shape[-2:]).clamp(0, 1)
            self._average = _Average(image, self.decay)
            pixels = nn.Parameter(image)
            loss = self._loss(content, _fitting(self._style, size))
            optimizer = optim.Adam([pixels], lr=self.step_size, betas=(0.9, 0.99))
            if moments is not None:
                step, first, second = moments
                optimizer.state[pixels] = {
                    "step": step,
                    "exp_avg": _stretched(first, image.shape[-2:]),
                    "exp_avg_sq": _stretched(second, image.shape[-2:], "bilinear").relu(),
                }
            is_first = size == self._sizes[0]
            for _ in range(self.first_iterations if is_first else self.further_iterations):
                optimizer.zero_grad()
                loss(pixels).backward()
                optimizer.step()
                with torch.no_grad():
                    pixels.clamp_(0, 1)
                self._average.update(pixels.detach())
                yield
            state = optimizer.state[pixels]
            moments = state["step"], state["exp_avg"], state["exp_avg_sq"]
            image = self._average.value()

    def _loss(self, content: Tensor, style: Tensor) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            targets = {name: self._features(content)[name] for name in CONTENT_LAYERS}
            styles = {
                name: _Gaussian(features, self.epsilon, self.square_root_iterations)
                for name, features in self._features(style).items()
                if name in STYLE_LAYERS
            }
        whole = sum(LAYER_WEIGHTS.values())

        def loss(pixels: Tensor) -> Tensor:
            features = self._features(pixels)
            found = self.tv_weight * _nine_point_variation(pixels)
            for name, target in targets.items():
                error = functional.mse_loss(features[name], target)
                found = found + self.content_weight / len(targets) * error
            for name, gaussian in styles.items():
                weight = LAYER_WEIGHTS[name] / whole
                found = found + weight * gaussian.distance(features[name])
            return found

        return loss

    def _features(self, pixels: Tensor) -> dict[str, Tensor]:
        layers = (*CONTENT_LAYERS, *STYLE_LAYERS)
        found = self._vgg.features(255 * pixels, layers, "max", padding="replicate")
        return {name: features / self.scale for name, features in found.items()}


class _Gaussian:
    """Mean and covariance of one layer's features, and the distance of others to it."""

    def __init__(self, features: Tensor, epsilon: float, iterations: int) -> None:
        self._epsilon, self._iterations = epsilon, iterations
        self._mean, self._covariance = self._moments(features)
        self._root = _square_root(self._covariance, iterations)

    def distance(self, features: Tensor) -> Tensor:
        mean, covariance = self._moments(features)
        root = _square_root(self._root @ covariance @ self._root, self._iterations)
        apart = torch.diagonal(self._covariance + covariance - 2 * root).mean()
        return functional.mse_loss(mean, self._mean) + apart

    def _moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        flat = features[0].flatten(1)
        mean = flat.mean(dim=1)
        covariance = flat @ flat.T / flat.shape[1] - torch.outer(mean, mean)
        return mean, covariance + self._epsilon * torch.eye(len(mean), device=mean.device)


class _Average:
    """An exponential moving average without the bias of its start."""

    def __init__(self, image: Tensor, decay: float) -> None:
        self._decay, self._sum, self._missing = decay, torch.zeros_like(image), 1.0
        self.update(image)

    def update(self, image: Tensor) -> None:
        self._missing *= self._decay
        self._sum = self._decay * self._sum + (1 - self._decay) * image

    def value(self) -> Tensor:
        return self._sum / (1 - self._missing)


def _square_root(matrix: Tensor, iterations: int) -> Tensor:
    norm = matrix.norm()
    eye = torch.eye(len(matrix), device=matrix.device)
    root, inverse = matrix / norm, eye
    for _ in range(iterations):
        factor = (3 * eye - inverse @ root) / 2
        root, inverse = root @ factor, factor @ inverse
    return root * norm.sqrt()


def _nine_point_variation(pixels: Tensor) -> Tensor:
    x = functional.pad(pixels, (1, 1, 1, 1), mode="replicate")
    middle, right, below = x[..., 1:-1, 1:-1], x[..., 1:-1, 2:], x[..., 2:, 1:-1]
    straight = (right - middle).square().mean() / 3 + (below - middle).square().mean() / 3
    falling = (x[..., 1:, 1:] - x[..., :-1, :-1]).square().mean() / 12
    rising = (x[..., 1:, :-1] - x[..., :-1, 1:]).square().mean() / 12
    return 2 * (straight + falling + rising)


def _fitting(image: Tensor, size: int) -> Tensor:
    """Brought to a long side. Its own is what it had from the caller, never more."""
    scale = min(1.0, size / max(image.shape[-2:]))
    height, width = (round(side * scale) for side in image.shape[-2:])
    return _stretched(image, (height, width), antialias=True).clamp(0, 1)


def _stretched(
    image: Tensor, shape: tuple[int, int], mode: str = "bicubic", antialias: bool = False
) -> Tensor:
    return functional.interpolate(image, shape, mode=mode, antialias=antialias)
