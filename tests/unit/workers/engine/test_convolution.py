"""One contract for all convolutions of a layer; torch's own, in float64, is the witness."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from impasto.workers.engine.device import operators
from impasto.workers.engine.device.arena import Arena
from impasto.workers.engine.network.backends import onednn, winograd
from impasto.workers.engine.network.backends.direct import Direct
from impasto.workers.engine.network.backends.onednn import SMALL_OUTPUT_BYTES, OneDnn
from impasto.workers.engine.network.backends.stem import Stem, widened
from impasto.workers.engine.network.backends.unfold import STEM_ROWS, UnfoldedStem
from impasto.workers.engine.network.backends.winograd import POINTS, Winograd, transforms
from impasto.workers.engine.network.convolution import Convolution, mask
from tests.unit.workers.engine.reference import error

INPUTS, OUTPUTS = 5, 7
BUILDS: dict[str, Callable[[Tensor, Tensor], Convolution]] = {
    "direct": Direct,
    "onednn": lambda weight, bias: OneDnn(weight, bias, (20, 30)),
    "winograd 2": lambda weight, bias: Winograd(weight, bias, 2, Arena()),
    "winograd 4": lambda weight, bias: Winograd(weight, bias, 4, Arena()),
}
STEMS: dict[str, Callable[[Tensor, Tensor], Convolution]] = {
    "direct": lambda weight, bias: stem(Direct(widened(weight), bias)),
    "onednn": lambda weight, bias: stem(OneDnn(weight, bias, (20, 30))),
    "unfold": lambda weight, bias: UnfoldedStem(weight, bias, MEAN, Arena()),
}
SIZES = [(1, 1), (1, 2), (2, 1), (2, 9), (3, 3), (4, 4), (5, 7), (8, 12), (13, 6), (18, 23)]
MEAN = torch.tensor([120.0, 110.0, 100.0])


def stem(convolution: Convolution) -> Stem:
    return Stem(convolution, MEAN, torch.float32, Arena())


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight() -> Tensor:
    return normal(OUTPUTS, INPUTS, 3, 3, seed=1)


@pytest.fixture
def bias() -> Tensor:
    return normal(OUTPUTS, seed=2)


@pytest.fixture(params=BUILDS)
def convolution(request: pytest.FixtureRequest, weight: Tensor, bias: Tensor) -> Convolution:
    """One that has convolved something before, of which nothing may be left."""
    made = BUILDS[request.param](weight, bias)
    spoilt = torch.full((1, 20, 30, INPUTS), torch.nan)
    forward(made, spoilt)
    backward(made, forward(made, spoilt), torch.full((1, 20, 30, OUTPUTS), torch.nan))
    return made


@pytest.fixture(params=[0, SMALL_OUTPUT_BYTES], ids=["in place", "memory of its own"])
def _memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what oneDNN gives; others are always in place."""
    monkeypatch.setattr(onednn, "SMALL_OUTPUT_BYTES", request.param)


@pytest.fixture(params=[1, winograd.BAND_BYTES], ids=["many bands", "one band"])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "BAND_BYTES", request.param)


def forward(convolution: Convolution, x: Tensor) -> Tensor:
    shape = (*x.shape[:3], convolution.outputs)
    return convolution.forward(x, partial(torch.full, shape, torch.nan, dtype=x.dtype))


def backward(convolution: Convolution, y: Tensor, gradient: Tensor) -> Tensor:
    shape = (*y.shape[:3], convolution.inputs)
    place = partial(torch.full, shape, torch.nan, dtype=y.dtype)
    gradient = gradient.clone()
    mask(gradient, y)
    return convolution.backward(gradient, place)


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Before the ReLU. x: (B, C, H, W), float64."""
    return functional.conv2d(x, weight.double(), bias.double(), padding=1)


def returned(x: Tensor, z: Tensor, y: Tensor, gradient: Tensor) -> Tensor:
    """Autograd's way back from z to x, for a gradient of y, through the ReLU that made y of z.

    Its masks are those that y shows: at an activation within rounding of 0, they may differ.
    """
    switched = torch.where(y > 0, gradient, 0).double().permute(0, 3, 1, 2)
    (found,) = torch.autograd.grad(z, x, switched)
    return found


def channels_first(x: Tensor) -> Tensor:
    return x.double().permute(0, 3, 1, 2)


@pytest.mark.usefixtures("_bands", "_memory")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_features_are_those_of_torchs_convolution(
    convolution: Convolution, weight: Tensor, bias: Tensor, height: int, width: int
) -> None:
    x = normal(2, height, width, INPUTS)
    expected = convolved(channels_first(x), weight, bias).relu()
    assert error(channels_first(forward(convolution, x)), expected) < 1e-5


@pytest.mark.usefixtures("_bands", "_memory")
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_gradients_are_those_of_autograd(
    convolution: Convolution, weight: Tensor, bias: Tensor, height: int, width: int
) -> None:
    x, gradient = normal(2, height, width, INPUTS), normal(2, height, width, OUTPUTS, seed=3)
    y = forward(convolution, x)
    exact = channels_first(x).requires_grad_()
    expected = returned(exact, convolved(exact, weight, bias), y, gradient)
    assert error(channels_first(backward(convolution, y, gradient)), expected) < 1e-5


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("tile", POINTS)
def test_an_images_bits_do_not_depend_on_its_batch(weight: Tensor, bias: Tensor, tile: int) -> None:
    convolution = Winograd(weight, bias, tile, Arena())
    batch, gradients = normal(3, 11, 14, INPUTS), normal(3, 11, 14, OUTPUTS, seed=3)
    together = forward(convolution, batch)
    assert torch.equal(together, torch.cat([forward(convolution, x[None]) for x in batch]))
    alone = [
        backward(convolution, y[None], gradient[None])
        for y, gradient in zip(together, gradients, strict=True)
    ]
    assert torch.equal(backward(convolution, together, gradients), torch.cat(alone))


@pytest.mark.parametrize("tile", POINTS)
def test_a_large_layer_stays_within_a_band(tile: int) -> None:
    """As wide as the network's widest: the error grows with the channels that are added up."""
    weight, bias = normal(64, 256, 3, 3, seed=1), normal(64, seed=2)
    arena = Arena()
    convolution = Winograd(weight, bias, tile, arena)
    x = normal(1, 70, 61, 256)
    y = forward(convolution, x)
    assert error(channels_first(y), convolved(channels_first(x), weight, bias).relu()) < 1e-5
    assert arena.size_bytes < 2 * winograd.BAND_BYTES


@pytest.mark.parametrize("tile", POINTS)
def test_the_transforms_are_a_correlation(tile: int) -> None:
    signal, kernel, output = transforms(tile)
    for seed in range(5):
        d, g = normal(tile + 2, seed=seed).double(), normal(3, seed=seed + 5).double()
        expected = torch.stack([d[i : i + 3] @ g for i in range(tile)])
        found = output @ ((kernel @ g) * (signal @ d))
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("_memory")
@pytest.mark.parametrize("build", ["direct", *["onednn"] * operators.has_bfloat16()])
def test_a_convolution_has_the_precision_of_its_weight(
    build: str, weight: Tensor, bias: Tensor
) -> None:
    x, gradient = normal(2, 9, 7, INPUTS).bfloat16(), normal(2, 9, 7, OUTPUTS, seed=3).bfloat16()
    convolution = BUILDS[build](weight.bfloat16(), bias.bfloat16())
    y = forward(convolution, x)
    back = backward(convolution, y, gradient)
    exact = channels_first(x).requires_grad_()
    z = convolved(exact, weight, bias)
    assert 0 < error(channels_first(y), z.relu()) < 0.02
    assert 0 < error(channels_first(back), returned(exact, z, y, gradient)) < 0.02


@pytest.mark.parametrize("build", ["onednn", "direct", "winograd 4"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_features_are_contiguous_wherever_they_lie(
    build: str, weight: Tensor, bias: Tensor, height: int, width: int
) -> None:
    convolution = BUILDS[build](weight, bias)
    y = forward(convolution, normal(2, height, width, INPUTS))
    assert y.is_contiguous()
    assert backward(convolution, y, torch.ones_like(y)).is_contiguous()


def test_only_large_features_ask_onednn_for_a_place(weight: Tensor, bias: Tensor) -> None:
    convolution = OneDnn(weight, bias, (20, 30))
    width = SMALL_OUTPUT_BYTES // (4 * OUTPUTS * 64)
    places = []

    def place(width: int) -> Tensor:
        places.append(torch.empty(1, 64, width, OUTPUTS))
        return places[-1]

    small, large = (
        convolution.forward(torch.ones(1, 64, w, INPUTS), partial(place, w))
        for w in (width, width + 1)
    )
    (placed,) = places
    assert large.data_ptr() == placed.data_ptr()
    torch.testing.assert_close(small[:, :, : width - 1], large[:, :, : width - 1])


@pytest.mark.usefixtures("_memory")
@pytest.mark.parametrize("build", STEMS)
@pytest.mark.parametrize(
    ("height", "width"), [*SIZES, (STEM_ROWS, 3), (STEM_ROWS + 1, 4), (2 * STEM_ROWS + 5, 9)]
)
def test_the_stem_is_a_convolution_of_the_image_less_its_mean(
    height: int, width: int, build: str
) -> None:
    weight, bias = normal(OUTPUTS, 3, 3, 3, seed=1), normal(OUTPUTS, seed=2)
    stem = STEMS[build](weight, bias)
    image = 110 + 60 * normal(2, 3, height, width)  # as images come: a plane for each channel
    gradient = normal(2, height, width, OUTPUTS, seed=3)
    y = forward(stem, image.permute(0, 2, 3, 1))
    back = backward(stem, y, gradient)

    exact = image.double().requires_grad_()
    z = convolved(exact - MEAN.double().view(3, 1, 1), weight, bias)
    assert error(channels_first(y), z.relu()) < 1e-5
    assert error(channels_first(back), returned(exact, z, y, gradient)) < 1e-5


@pytest.mark.parametrize("build", STEMS)
def test_a_stem_leaves_the_image_as_it_is(build: str) -> None:
    stem = STEMS[build](normal(OUTPUTS, 3, 3, 3, seed=1), normal(OUTPUTS, seed=2))
    image = normal(1, 3, 9, 9)
    kept = image.clone()
    forward(stem, image.permute(0, 2, 3, 1))
    assert torch.equal(image, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_passes_where_the_relu_let_something_through(dtype: torch.dtype) -> None:
    y = torch.tensor([0.0, -0.0, 1e-39, 1e-30, 2.0, torch.inf], dtype=dtype)
    gradient = torch.tensor([5.0, -5.0, 4.0, 6.0, -7.0, 0.5], dtype=dtype)
    mask(gradient, y)
    assert gradient.tolist() == [0, 0, 4, 6, -7, 0.5]
