"""What a spec becomes for the engine."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.shared import object_keys
from impasto.shared.pictures import codec
from impasto.shared.pictures.pool import Decoders
from impasto.shared.spec import JobSpec
from impasto.workers import colors
from impasto.workers.engine.plan import PLAIN
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.images import Rendered
from impasto.workers.smoothing import smoothed
from impasto.workers.spec_to_plan import finished, in_styles_colors, plan_of, style_of
from tests.arrange.pictures import encode, noise
from tests.arrange.specs import spec

CONTENT, PAINTING = encode(noise(1, (60, 40)), "PNG"), encode(noise(2, (50, 50)), "PNG")
HALF = Image.new("L", (10, 10), 0)
HALF.paste(255, (0, 0, 5, 10))
MASK = encode(HALF, "PNG")
Styles = Callable[..., list[Style]]
FILES = {object_keys.digest(data): data for data in (CONTENT, PAINTING, MASK)}


@pytest.fixture
def styles(decoders: Decoders) -> Styles:
    """The engine's styles for a spec with these fields, 120 x 80 px."""

    def make(**fields: Any) -> list[Style]:
        painting = {"asset": object_keys.digest(PAINTING)}
        asked = {"content": object_keys.digest(CONTENT), "styles": [painting], "size": 120}
        whole = spec(**asked | fields)
        content = decoders.decode(CONTENT, whole.size).picture
        file = FILES.__getitem__
        return [style_of(style, whole, content, file, decoders) for style in whole.styles]

    return make


def test_a_style_is_scaled_with_the_size(styles: Styles) -> None:
    (same,), (larger,) = styles(), styles(style_scale=1.5)

    assert (tuple(same.picture.shape), tuple(larger.picture.shape)) == (
        (120, 120, 3),
        (180, 180, 3),
    )
    assert same.picture.dtype == torch.uint8
    assert (same.asset, same.mask) == (object_keys.digest(PAINTING), None)


def test_a_mask_reaches_the_engine_in_the_canvas_size_and_beside_its_style(styles: Styles) -> None:
    painting = {"asset": object_keys.digest(PAINTING), "weight": 3}
    masked, plain = styles(styles=[{**painting, "mask": object_keys.digest(MASK)}, painting])

    assert masked.mask is not None
    assert (masked.mask.dtype, tuple(masked.mask.shape)) == (torch.uint8, (80, 120))
    assert (masked.mask[:, :50] == 255).all()
    assert (masked.mask[:, 70:] == 0).all()
    assert plain.mask is None
    assert (masked.weight, plain.weight) == (0.5, 0.5)


@pytest.mark.parametrize("way", ["histogram", "covariance"])
def test_a_style_is_recolored_before_the_render(styles: Styles, way: str) -> None:
    (plain,), (recolored,) = styles(), styles(original_colors=way)

    expected = colors.MATCHED[way](plain.picture.numpy(), codec.decode(CONTENT, 120).picture)
    assert np.array_equal(recolored.picture.numpy(), expected)
    assert not torch.equal(recolored.picture, plain.picture)


def test_luminance_leaves_the_style_as_it_is(styles: Styles) -> None:
    (plain,), (luminance,) = styles(), styles(original_colors="luminance")

    assert torch.equal(plain.picture, luminance.picture)
    assert plain.asset == luminance.asset


def test_no_two_pictures_share_a_name_in_the_cache(styles: Styles) -> None:
    other = object_keys.digest(PAINTING)
    ways = [
        {},
        {"original_colors": "histogram"},
        {"original_colors": "covariance"},
        {"original_colors": "covariance", "content": other},
        {
            "original_colors": "covariance",
            "size": 240,
            "style_scale": 0.5,
        },  # as large as the others
    ]

    assert len({styles(**fields)[0].asset for fields in ways}) == len(ways)


def test_the_plan_says_what_the_spec_says() -> None:
    told: dict[str, Any] = {
        "iterations": 7,
        "optimizer": "adam",
        "learning_rate": 2.0,
        "init": "noise",
        "seed": 5,
        "content_layers": {"relu3_1": 1.0},
        "style_layers": {"relu2_1": 1.0},
        "content_weight": 2.0,
        "style_weight": 3.0,
        "tv_weight": 4.0,
        "pooling": "max",
        "normalize_gradients": True,
        "pyramid": 3,
        "patience": 20,
    }
    asked = {
        "content": object_keys.digest(CONTENT),
        "styles": [object_keys.digest(PAINTING)],
        **told,
    }

    plan = plan_of(JobSpec.model_validate(asked), "bfloat16")

    assert dataclasses.asdict(plan) == {**told, "strength": None, "precision": "bfloat16"}
    assert all(getattr(plan, name) != getattr(PLAIN, name) for name in told)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, 1.0),
        ({"strength": 1.0}, 1.0),
        ({"strength": 0.25}, 0.5),
        ({"strength": 0.0}, 0.0),
        ({"content_colors": "own"}, 0.0),
        ({"style_weight": 1.0}, 0.0),
        ({"style_weight": 1.0, "content_colors": "style"}, 1.0),
        ({"original_colors": "luminance"}, 0.0),
    ],
)
def test_the_engine_sees_the_content_in_the_styles_colours_as_far_as_the_spec_says(
    fields: dict[str, Any], part: float
) -> None:
    content = np.full((40, 40, 3), (200, 100, 40), np.uint8)
    painting = np.full((20, 30, 3), (60, 80, 160), np.uint8)
    asked = spec(**fields)

    seen = in_styles_colors(content, [Style(torch.from_numpy(painting))], asked)

    wanted = (1 - part) * content[0, 0] + part * painting[0, 0]
    assert np.abs(seen - wanted).max() <= 1


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({}, 1.0),
        ({"strength": 0.25}, 0.5),
        ({"strength": 0.0}, 0.0),
        ({"finish": "none"}, 0.0),
        ({"style_weight": 1.0}, 0.0),
        ({"style_weight": 1.0, "finish": "smooth"}, 1.0),
    ],
)
def test_a_picture_is_finished_as_far_as_the_spec_says(
    fields: dict[str, Any], amount: float
) -> None:
    image, content = grain(2), np.zeros((40, 60, 3), np.uint8)
    asked = spec(**fields)

    assert np.array_equal(finished(image, content, asked), smoothed(image, content, amount))


def test_the_contents_colours_go_over_a_smooth_picture() -> None:
    image, content = grain(2), grain(3).astype(np.uint8)
    asked = spec(original_colors="luminance")

    picture = finished(image, content, asked)

    assert np.array_equal(picture, colors.with_colors_of(smoothed(image, content), content))


def grain(seed: int) -> Rendered:
    """(40, 60, 3), 0..255."""
    return np.random.default_rng(seed).uniform(0, 255, (40, 60, 3)).astype(np.float32)
