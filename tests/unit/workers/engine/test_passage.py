from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from impasto.workers.engine.layers import CHANNELS, Pooling, Precision
from impasto.workers.engine.network.convolution import Convolution, OutputAllocator
from impasto.workers.engine.network.passage import NetworkPass
from impasto.workers.engine.network.strips import blocks, plan_strips, whole_bytes
from impasto.workers.engine.network.vgg import Vgg
from tests.unit.workers.engine import reference
from tests.unit.workers.engine.reference import error
from tests.unit.workers.engine.test_strips import DEEP, EARLY, LITTLE, TAPS, taken


class Cotangents:
    """Keeps the features, and adds gradients drawn once: the backward pass is linear."""

    def __init__(self, taps: tuple[str, ...], height: int, width: int, batch: int) -> None:
        shapes = {
            layer: (batch, block.height, block.width, CHANNELS[layer][1])
            for block in blocks(taps, height, width)
            for layer in block.layers
            if layer in taps
        }
        generator = torch.Generator().manual_seed(8)
        self.gradients = {
            layer: torch.randn(shapes[layer], generator=generator) for layer in shapes
        }
        self.features = {layer: torch.full(shapes[layer], torch.nan) for layer in shapes}
        self.rows: Counter[tuple[str, int, str, int]] = Counter()

    def on_features(self, index: int, layer: str, features: Tensor, top: int) -> None:
        self.features[layer][index, top : top + len(features)] = features
        self._count("on_features", index, layer, features, top)

    def add_gradient(
        self, index: int, layer: str, features: Tensor, gradient: Tensor, top: int
    ) -> None:
        assert torch.equal(features, self.features[layer][index, top : top + len(features)])
        gradient += self.gradients[layer][index, top : top + len(features)]
        self._count("add_gradient", index, layer, features, top)

    def _count(self, way: str, index: int, layer: str, features: Tensor, top: int) -> None:
        self.rows.update((way, index, layer, top + row) for row in range(len(features)))


def image(height: int, width: int, batch: int = 1, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 3, height, width, generator=generator) * 255


def passed(
    vgg: Vgg,
    images: Tensor,
    taps: tuple[str, ...] = TAPS,
    *,
    pooling: Pooling = "avg",
    budget_bytes: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[Tensor, Cotangents]:
    listener = Cotangents(taps, *images.shape[-2:], len(images))
    passage = NetworkPass(
        vgg,
        images,
        taps,
        listener,
        pooling=pooling,
        precision="float32",
        budget_bytes=budget_bytes,
        check=check,
    )
    assert passage.is_whole == (budget_bytes is None)
    passage.forward()
    return backward(passage, images), listener


def backward(passage: NetworkPass, images: Tensor) -> Tensor:
    """The gradient alone; what was there before is added to."""
    gradient = torch.full_like(images, 2.0)
    passage.backward(gradient)
    return gradient - 2


def test_without_a_listener_there_is_no_way_to_go(vgg: Vgg) -> None:
    assert blocks([], 1, 1) == []
    assert whole_bytes([], "float32") == 0
    gradient, _ = passed(vgg, image(5, 4), ())
    assert torch.equal(gradient, torch.zeros(1, 3, 5, 4))


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("budget_bytes", [None, LITTLE], ids=["whole", "strips"])
@pytest.mark.parametrize("size", [(80, 20, 1), (83, 18, 2), (37, 9, 1), (49, 22, 1)])
def test_features_and_gradients_are_those_of_autograd(
    vgg: Vgg, pooling: Pooling, budget_bytes: int | None, size: tuple[int, int, int]
) -> None:
    """With rows and columns that no pool takes, and strips that end where the image does.

    The sizes are such that no ReLU is different in float64: see `reference`.
    """
    images = image(*size)
    gradient, listener = passed(vgg, images, pooling=pooling, budget_bytes=budget_bytes)

    exact = images.double().requires_grad_()
    features = reference.features(vgg.weights, exact, TAPS, pooling)
    added = {layer: one.double().permute(0, 3, 1, 2) for layer, one in listener.gradients.items()}
    goal = sum((features[layer] * added[layer]).sum() for layer in TAPS)
    (expected,) = torch.autograd.grad(goal, exact)
    for layer in TAPS:
        assert error(listener.features[layer].permute(0, 3, 1, 2), features[layer]) < 1e-5
    assert error(gradient, expected) < 1e-5
    assert set(listener.rows.values()) == {1}
    assert len(listener.rows) == 2 * sum(len(x) * x.shape[1] for x in listener.features.values())


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("taps", [DEEP, EARLY])
@pytest.mark.parametrize(("height", "width"), [(101, 19), (104, 16), (147, 8)])
def test_strips_give_what_the_whole_gives(
    vgg: Vgg, taps: tuple[str, ...], pooling: Pooling, height: int, width: int
) -> None:
    images = image(height, width, batch=2)
    whole, of_whole = passed(vgg, images, taps, pooling=pooling)
    strips, of_strips = passed(vgg, images, taps, pooling=pooling, budget_bytes=LITTLE)
    for layer in taps:
        assert error(of_strips.features[layer], of_whole.features[layer]) < 1e-6
    assert error(strips, whole) < 1e-5


def test_of_features_that_are_alike_a_pool_takes_the_same_in_strips_as_in_the_whole(
    vgg: Vgg,
) -> None:
    grey = torch.full((1, 3, 64, 40), 128.0)
    whole, _ = passed(vgg, grey, EARLY, pooling="max")
    strips, _ = passed(vgg, grey, EARLY, pooling="max", budget_bytes=LITTLE)
    assert error(strips, whole) < 1e-5


class Counted(Convolution):
    """Another one that counts how often it is computed."""

    def __init__(self, convolution: Convolution, times: Counter[str], layer: str) -> None:
        super().__init__(convolution.inputs, convolution.outputs)
        self._convolution, self._times, self._layer = convolution, times, layer

    def forward(self, x: Tensor, place: OutputAllocator) -> Tensor:
        self._times[self._layer] += 1
        return self._convolution.forward(x, place)

    def backward(self, gradient: Tensor, place: OutputAllocator) -> Tensor:
        return self._convolution.backward(gradient, place)


class Counting(Vgg):
    times: Counter[str]

    def convolution(self, layer: str, precision: Precision, height: int, width: int) -> Convolution:
        return Counted(super().convolution(layer, precision, height, width), self.times, layer)


@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_what_lies_behind_the_last_tap_of_a_strip_is_computed_once(
    vgg: Vgg, pooling: Pooling
) -> None:
    counting = Counting(vgg.weights)
    counting.times = Counter()
    images = image(136, 8)
    passed(counting, images, EARLY, pooling=pooling, budget_bytes=LITTLE)
    plan = plan_strips(blocks(EARLY, 136, 8), 1, "float32", LITTLE)
    first, second, third, kept = map(len, plan)
    assert min(first, second, third) > kept == 1
    assert counting.times == {
        "1_1": first,
        "1_2": first,
        "2_1": 2 * second,
        "2_2": second,
        "3_1": 2 * third,
        "3_2": 2 * third,
        "3_3": third,
        "3_4": third,
        "4_1": 1,
        "4_2": 1,
    }


def test_a_single_layer_is_a_pass_too(vgg: Vgg) -> None:
    images = image(40, 9)
    whole, _ = passed(vgg, images, ("1_1",))
    strips, _ = passed(vgg, images, ("1_1",), budget_bytes=LITTLE)
    assert error(strips, whole) < 1e-6


def test_the_images_of_a_batch_do_not_see_each_other(vgg: Vgg) -> None:
    batch = image(24, 27, batch=3)
    together, listener = passed(vgg, batch)
    for b in range(3):
        one = Cotangents(TAPS, 24, 27, 1)
        one.gradients = {layer: whole[b : b + 1] for layer, whole in listener.gradients.items()}
        passage = NetworkPass(vgg, batch[b : b + 1], TAPS, one, pooling="avg", precision="float32")
        passage.forward()
        assert torch.equal(backward(passage, batch[b : b + 1])[0], together[b])
        assert all(torch.equal(one.features[tap][0], listener.features[tap][b]) for tap in TAPS)


def test_a_pass_leaves_the_images_as_they_are(
    vgg: Vgg,
) -> None:
    images = image(24, 27)
    kept = images.clone()
    passed(vgg, images)
    assert torch.equal(images, kept)


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("taps", [DEEP, EARLY])
def test_bfloat16_stays_close_to_float32(vgg: Vgg, taps: tuple[str, ...], pooling: Pooling) -> None:
    images = image(48, 22)
    exact, expected = passed(vgg, images, taps, pooling=pooling)
    for budget_bytes in (None, LITTLE):
        listener = Cotangents(taps, 48, 22, 1)
        passage = NetworkPass(
            vgg,
            images,
            taps,
            listener,
            pooling=pooling,
            precision="bfloat16",
            budget_bytes=budget_bytes,
        )
        listener.add_gradient = rounded(listener)  # type: ignore[method-assign]
        passage.forward()
        gradient = backward(passage, images)
        assert gradient.dtype == torch.float32
        assert 0 < error(gradient, exact) < 0.1
        for layer in taps:
            assert 0 < error(listener.features[layer], expected.features[layer]) < 0.05


def rounded(listener: Cotangents) -> Callable[[int, str, Tensor, Tensor, int], None]:
    """Adds in bfloat16; features of strips need not be those of the whole to the last bit."""

    def add_gradient(index: int, layer: str, features: Tensor, gradient: Tensor, top: int) -> None:
        assert features.dtype == gradient.dtype == torch.bfloat16
        gradient += listener.gradients[layer][index, top : top + len(features)].bfloat16()

    return add_gradient


def arena_bytes(vgg: Vgg) -> int:
    """What a network's passages hold, but for its convolutions' scratch."""
    return sum(
        buffer.nbytes
        for (name, _), buffer in vgg.arena._buffers.items()
        if not name.startswith(("winograd", "stem"))
    )


@pytest.mark.parametrize(("height", "width", "batch"), [(48, 40, 1), (37, 31, 2)])
@pytest.mark.parametrize("taps", [DEEP, ("2_1",), ("1_2",), ("3_1",)])
def test_what_is_said_to_be_taken_is_taken(
    vgg: Vgg, taps: tuple[str, ...], height: int, width: int, batch: int
) -> None:
    vgg.arena.clear()
    passed(vgg, image(height, width, batch), taps)
    assert arena_bytes(vgg) == batch * whole_bytes(blocks(taps, height, width), "float32")


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("taps", [DEEP, EARLY, ("2_1",), ("1_2",), ("3_1",)])
def test_strips_take_what_their_plan_says(
    vgg: Vgg, taps: tuple[str, ...], pooling: Pooling
) -> None:
    vgg.arena.clear()
    passed(vgg, image(145, 18, 2), taps, pooling=pooling, budget_bytes=LITTLE)
    found = blocks(taps, 145, 18)
    assert arena_bytes(vgg) == taken(found, plan_strips(found, 2, "float32", LITTLE), 2)


@pytest.mark.parametrize("percent", [50, 70, 90])
def test_a_pass_stays_within_its_budget(vgg: Vgg, percent: int) -> None:
    vgg.arena.clear()
    budget_bytes = whole_bytes(blocks(DEEP, 145, 17), "float32") * percent // 100
    passed(vgg, image(145, 17), DEEP, budget_bytes=budget_bytes)
    assert budget_bytes / 2 < arena_bytes(vgg) <= budget_bytes


def test_who_checks_is_asked_between_strips_forward_and_backward(vgg: Vgg) -> None:
    asked: list[None] = []
    images = image(81, 9)
    passed(vgg, images, check=lambda: asked.append(None))
    assert len(asked) == 2 * 3  # blocks
    asked.clear()
    plan = plan_strips(blocks(TAPS, 81, 9), 1, "float32", LITTLE)
    passed(vgg, images, budget_bytes=LITTLE, check=lambda: asked.append(None))
    assert len(asked) == 2 * sum(map(len, plan)) > 2 * 6


class Enough(Exception):
    pass


@pytest.mark.parametrize("budget_bytes", [None, LITTLE], ids=["whole", "strips"])
def test_a_pass_that_is_ended_leaves_nothing_to_the_next(
    vgg: Vgg, budget_bytes: int | None
) -> None:
    images = image(49, 11)
    expected, _ = passed(vgg, images, budget_bytes=budget_bytes)
    for last in range(1, 6):
        left = iter(range(last))

        def check(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Enough

        with pytest.raises(Enough):
            passed(vgg, image(49, 11, seed=4), budget_bytes=budget_bytes, check=check)
        again, _ = passed(vgg, images, budget_bytes=budget_bytes)
        assert torch.equal(again, expected)
