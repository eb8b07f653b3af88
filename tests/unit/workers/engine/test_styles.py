import pytest
import torch
from torch import Tensor

from impasto.workers.engine.errors import ShapeError
from impasto.workers.engine.layers import Pooling
from impasto.workers.engine.network import passage
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.styles import StyleCache, StyleTarget, style_target
from impasto.workers.engine.render.pictures import to_image
from tests.unit.workers.engine import reference
from tests.unit.workers.engine.reference import error


def target(size_bytes: int) -> StyleTarget:
    return StyleTarget({"1_1": torch.zeros(size_bytes // 4)})


@pytest.mark.parametrize("strip_bytes", [2**30, 1], ids=["whole", "strips"])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_a_target_holds_the_gram_of_each_layer(
    vgg: Vgg,
    style: Tensor,
    pooling: Pooling,
    strip_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a size of its own, that no pool divides; in strips it is the same sum."""
    monkeypatch.setattr(passage, "FORWARD_ONLY_BYTES", strip_bytes)
    image = to_image(style[:61, :43])
    found = style_target(vgg, image, ["relu1_1", "conv3_1"], pooling=pooling, precision="float32")
    expected = reference.features(vgg.weights, image, ["1_1", "3_1"], pooling)
    assert set(found.grams) == {"1_1", "3_1"}
    for layer, features in expected.items():
        flat = features[0].flatten(1)
        assert error(found.grams[layer], flat @ flat.T / flat.shape[1]) < 1e-5
        assert found.grams[layer].dtype == torch.float32
    assert found.size_bytes == 4 * (64**2 + 256**2)


@pytest.mark.parametrize("strip_bytes", [2**30, 1], ids=["whole", "strips"])
def test_only_what_is_opaque_is_style(
    vgg: Vgg, style: Tensor, strip_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By features of the reference, in float64: those whose cells are opaque, and no others."""
    monkeypatch.setattr(passage, "FORWARD_ONLY_BYTES", strip_bytes)
    image = to_image(style)
    opaque = torch.zeros(64, 80)
    opaque[8:56, 16:48] = 1  # whole cells of each layer
    found = style_target(
        vgg, image, ["relu1_1", "conv3_1"], pooling="avg", precision="float32", opaque=opaque
    )
    expected = reference.features(vgg.weights, image, ["1_1", "3_1"], "avg")
    for layer, features in expected.items():
        cell = 64 // features.shape[2]
        inside = features[0, :, 8 // cell : 56 // cell, 16 // cell : 48 // cell].flatten(1)
        assert error(found.grams[layer], inside @ inside.T / inside.shape[1]) < 1e-5


def test_what_lies_far_outside_of_the_opaque_part_changes_nothing(vgg: Vgg, style: Tensor) -> None:
    """relu2_1 sees 6 px around: the opaque part is as if it had been cut out of the painting."""
    opaque = torch.zeros(64, 80)
    opaque[8:56, 8:40] = 1
    on_white = style.clone()
    on_white[:, 48:] = 255
    whole, other, cut_out = (
        style_target(
            vgg, to_image(picture), ["relu2_1"], pooling="avg", precision="float32", opaque=part
        ).grams["2_1"]
        for picture, part in (
            (style, opaque),
            (on_white, opaque),
            (style[:, :48], opaque[:, :48]),
        )
    )
    assert error(other, whole) < 1e-6
    assert error(cut_out, whole) < 1e-6
    plain = style_target(
        vgg, to_image(on_white), ["relu2_1"], pooling="avg", precision="float32"
    ).grams["2_1"]
    assert error(plain, whole) > 0.1  # white paper would have been style


def test_a_target_outlives_the_passes_that_follow(vgg: Vgg, style: Tensor) -> None:
    kept = style_target(vgg, to_image(style), ["relu2_1"], pooling="avg", precision="float32")
    gram = kept.grams["2_1"].clone()
    style_target(vgg, to_image(255 - style), ["relu2_1"], pooling="avg", precision="float32")
    assert torch.equal(kept.grams["2_1"], gram)


def test_a_target_in_bfloat16_is_added_up_in_float32(vgg: Vgg, style: Tensor) -> None:
    exact, rounded = (
        style_target(vgg, to_image(style), ["relu3_1"], pooling="avg", precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert rounded.grams["3_1"].dtype == torch.float32
    assert 0 < error(rounded.grams["3_1"], exact.grams["3_1"]) < 0.02


def test_a_style_too_small_for_its_layers_is_refused(vgg: Vgg, style: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"80 x 15 px; relu5_1 needs at least 16 px"):
        style_target(vgg, to_image(style[:15]), ["relu5_1"], pooling="avg", precision="float32")


def test_what_is_kept_is_not_made_again() -> None:
    cache = StyleCache()
    kept = cache.get("stripes", lambda: target(400))
    assert cache.get("stripes", lambda: pytest.fail("made twice")) is kept


def test_the_least_recently_used_target_leaves_first() -> None:
    cache = StyleCache(budget_bytes=1000)
    for name in ("a", "b", "a", "c"):
        cache.get(name, lambda: target(400))
    made = []
    for name in ("a", "c", "b"):
        cache.get(name, lambda name=name: made.append(name) or target(400))
    assert made == ["b"]
    assert cache.size_bytes == 800


def test_a_target_above_the_budget_is_given_but_not_kept() -> None:
    cache = StyleCache(budget_bytes=100)
    assert cache.get("large", lambda: target(400)).size_bytes == 400
    assert cache.size_bytes == 0
