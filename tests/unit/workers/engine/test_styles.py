import pytest
import torch
from torch import Tensor

from workers.engine.losses import gram
from workers.engine.pictures import to_image
from workers.engine.styles import StyleCache, StyleTarget, style_target
from workers.engine.vgg import Vgg


def target(size_bytes: int) -> StyleTarget:
    return StyleTarget({"relu1_1": torch.zeros(size_bytes // 4)})


def test_a_target_holds_the_gram_of_each_layer(vgg: Vgg, style: Tensor) -> None:
    image = to_image(style)
    found = style_target(vgg, image, ["relu1_1", "conv3_1"], "avg", "float32")
    features = vgg.features(image, ["relu3_1"], "avg")["relu3_1"]
    assert torch.equal(found.grams["conv3_1"], gram(features))
    assert found.size_bytes == 4 * (64**2 + 256**2)


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
