"""What a client may ask for, and the digest of what it means."""

import json
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from impasto.shared import recipes
from impasto.shared.errors import Violation
from impasto.shared.sizes import canvas
from impasto.shared.spec import LAYERS, JobSpec, RenderSpec, digest, overridden
from impasto.shared.violations import violations

PHOTO, PAINTING, SKETCH, MASK = "a" * 64, "b" * 64, "c" * 64, "d" * 64
LEAST: dict[str, Any] = {"content": PHOTO, "styles": [PAINTING]}

# Bounds and refusals.

BOUNDS = {
    "size": (64, 16_384),
    "iterations": (1, 10_000),
    "patience": (0, 10_000),
    "pyramid": (1, 6),
    "quality": (1, 100),
    "seed": (0, 2**53 - 1),
    "snapshot_every": (0, 10_000),
    "priority": (-100, 100),
    "strength": (0, 1),
    "content_weight": (0, 1e12),
    "style_weight": (0, 1e12),
    "tv_weight": (0, 1e12),
    "style_scale": (0.1, 4),
    "learning_rate": (1e-4, 255),
    "deadline_seconds": (math.ulp(0), 30 * 86400),
}
ACCEPTED = {
    "size": "a whole number, at least 64 and at most 16384",
    "patience": "a whole number, at least 0 and at most 10000",
    "pyramid": "a whole number, at least 1 and at most 6",
    "quality": "a whole number, at least 1 and at most 100",
    "iterations": "a whole number, at least 1 and at most 10000",
    "seed": f"a whole number, at least 0 and at most {2**53 - 1}",
    "snapshot_every": "a whole number, at least 0 and at most 10000",
    "priority": "a whole number, at least -100 and at most 100",
    "strength": "a finite number, at least 0 and at most 1",
    "content_weight": "a finite number, at least 0 and at most 1000000000000",
    "style_weight": "a finite number, at least 0 and at most 1000000000000",
    "tv_weight": "a finite number, at least 0 and at most 1000000000000",
    "style_scale": "a finite number, at least 0.1 and at most 4",
    "learning_rate": "a finite number, at least 0.0001 and at most 255",
    "deadline_seconds": "a finite number, more than 0 and at most 2592000",
    "optimizer": "one of lbfgs, adam",
    "init": "one of content, noise, style, asset",
    "pooling": "one of avg, max",
    "normalize_gradients": "true or false",
    "exact": "true or false",
    "original_colors": "one of none, luminance, histogram, covariance",
    "content_colors": "one of style, own",
    "finish": "one of smooth, none",
    "recipe": f"one of {', '.join(recipes.NAMES)}",
    "snapshot_format": "one of jpeg, png",
    "format": "one of png, jpeg, webp",
    "bits": "one of 8, 16",
    "precision": "one of auto, float32, bfloat16",
    "content": "The picture whose shapes are kept: an asset's id, 64 hex digits.",
    "init_asset": "The picture to start from, with init: asset; its id, 64 hex digits.",
    "styles": "a list of 1 to 8 items",
    "labels": "an object of 0 to 16 entries",
    "content_layers": JobSpec.model_fields["content_layers"].description,
    "style_layers": JobSpec.model_fields["style_layers"].description,
}
NAN, INF = float("nan"), float("inf")


def test_every_field_is_tried_here() -> None:
    assert set(ACCEPTED) == set(JobSpec.model_fields)


@pytest.mark.parametrize("field", BOUNDS)
def test_a_number_may_be_as_its_bounds_and_nothing_beyond(field: str) -> None:
    lowest, highest = BOUNDS[field]
    for value in (lowest, highest):
        # Without any style something else must lead away from the content.
        assert getattr(read(init="noise", **{field: value}), field) == value

    is_whole = "whole" in ACCEPTED[field]
    below = lowest - 1 if is_whole else min(0, math.nextafter(lowest, -INF))
    above = highest + 1 if is_whole else math.nextafter(highest, INF)
    assert below < lowest < highest < above
    for value in (below, above):
        assert refused(**{field: value}) == [Violation(field, value, ACCEPTED[field])]


@pytest.mark.parametrize("field", ACCEPTED)
@pytest.mark.parametrize("value", ["nonsense", True, NAN, INF, -INF], ids=repr)
def test_a_value_of_another_kind_is_refused_by_name(field: str, value: object) -> None:
    if value is True and ACCEPTED[field] == "true or false":
        value = 1
    shown = str(value) if isinstance(value, float) else value

    assert refused(**{field: value}) == [Violation(field, shown, ACCEPTED[field])]


@pytest.mark.parametrize("field", ["size", "iterations", "seed", "priority", "snapshot_every"])
def test_a_whole_number_is_written_as_one(field: str) -> None:
    for value in ("64", 64.0, 64.5, None, [64]):
        (violation,) = refused(**{field: value})
        assert (violation.field, violation.accepted) == (field, ACCEPTED[field])


LAYER_NAMES = f"accepted: relu1_1 to relu5_4 ({', '.join(LAYERS)}), the same as conv..., or block1"


@pytest.mark.parametrize(
    ("fields", "field", "value", "accepted"),
    [
        ({"styles": []}, "styles", "[]", "a list of 1 to 8 items"),
        ({"styles": PAINTING}, "styles", PAINTING, "a list of 1 to 8 items"),
        ({"styles": ["x"]}, "styles.0.asset", "x", "The id of an uploaded picture: the SHA-256"),
        ({"styles": [PAINTING, 7]}, "styles.1", 7, "an object with asset, weight"),
        ({"styles": [{}]}, "styles.0.asset", None, "required: The id of an uploaded picture"),
        (
            {"styles": [{"asset": PAINTING, "wieght": 1}]},
            "styles.0.wieght",
            1,
            "one of the fields asset, weight",
        ),
        (
            {"styles": [{"asset": PAINTING, "weight": 0}]},
            "styles.0.weight",
            0,
            "a finite number, at least 0.0001 and at most 1000",
        ),
        (
            {"styles": [{"asset": PAINTING, "weight": NAN}]},
            "styles.0.weight",
            "nan",
            "a finite number, at least 0.0001 and at most 1000",
        ),
        ({"content": PHOTO.upper()}, "content", PHOTO.upper(), ACCEPTED["content"]),
        ({"content": PHOTO + "\n"}, "content", PHOTO + "\n", ACCEPTED["content"]),
        ({"init": "asset", "init_asset": "x"}, "init_asset", "x", ACCEPTED["init_asset"]),
        (
            {"style_layers": {"relu4_1": NAN}},
            "style_layers.relu4_1",
            "nan",
            "a finite number, at least 1e-09 and at most 1000000",
        ),
        ({"style_layers": {"relu4_1": 0}}, "style_layers.relu4_1", 0, "a finite number, at leas"),
        ({"style_layers": {"conv4_1": "1"}}, "style_layers.relu4_1", "1", "a finite number, at l"),
        ({"style_layers": []}, "style_layers", "{}", ACCEPTED["style_layers"]),
        ({"style_layers": {}}, "style_layers", "{}", ACCEPTED["style_layers"]),
        (
            {"style_layers": ["relu6_1"]},
            "style_layers",
            "['relu6_1']",
            f"no layer is called 'relu6_1'; {LAYER_NAMES}",
        ),
        ({"content_layers": ["block6"]}, "content_layers", "['block6']", "no layer is called 'blo"),
        ({"content_layers": [[1]]}, "content_layers", "[[1]]", "no layer is called '[1]'"),
        (
            {"style_layers": ["relu4_1", "block4"]},
            "style_layers",
            "['relu4_1', 'block4']",
            "relu4_1 is named twice",
        ),
        (
            {"style_layers": ["relu4_1", "relu4_1"]},
            "style_layers",
            "['relu4_1', 'relu4_1']",
            "relu4_1 is named twice",
        ),
        ({"labels": {"a": ""}}, "labels.a", "", "1 to 200 characters, no control characters"),
        ({"labels": {"a": "\0"}}, "labels.a", "\0", "1 to 200 characters, no control characters"),
        ({"labels": {"a": 1}}, "labels.a", 1, "1 to 200 characters, no control characters"),
        ({"labels": {"": "a"}}, "labels.", "", "1 to 200 letters, digits and any of _ . / -"),
        ({"labels": {"a:b": "a"}}, "labels.a:b", "a:b", "1 to 200 letters, digits and any of _"),
        ({"init": "asset"}, "(spec)", None, "init_asset is needed with init: asset, and only then"),
        ({"init_asset": SKETCH}, "(spec)", None, "init_asset is needed with init: asset, and onl"),
        (
            {"styles": [{"asset": PAINTING, "weight": 5e-324}, {"asset": SKETCH, "weight": 1000}]},
            "styles.0.weight",
            5e-324,
            "a finite number, at least 0.0001 and at most 1000",
        ),
        (
            {"styles": [{"asset": PAINTING, "weight": 0.05}, {"asset": SKETCH, "weight": 1000}]},
            "styles",
            f"[{{'asset': '{PAINTING}', 'weight': 0.05}}, {{'asset': '{SKETCH}', 'weight': 1000}}]",
            "the weight of style 0 is 0.05 of 1000.05 in all; accepted: at least 0.0001 of their",
        ),
        ({"style_layers": {"relu4_1": 1e-30}}, "style_layers.relu4_1", 1e-30, "a finite number, a"),
        ({"content_weight": 1e-30}, "content_weight", 1e-30, "0, or at least 1e-12"),
        ({"style_weight": 5e-324}, "style_weight", 5e-324, "0, or at least 1e-12 and at most"),
        ({"tv_weight": 1e-13}, "tv_weight", 1e-13, "0, or at least 1e-12 and at most 1e+12"),
        (
            {"style_weight": 0},
            "(spec)",
            None,
            "style_weight is 0, accepted with init: content and tv_weight: 0: more than 0",
        ),
        (
            {"learning_rate": 1e-4, "iterations": 9},
            "(spec)",
            None,
            "learning_rate is 0.0001 over 9 iterations, accepted with optimizer: lbfgs: at least",
        ),
        (
            {"optimizer": "adam", "learning_rate": 0.002},
            "(spec)",
            None,
            "learning_rate is 0.002 over 120 iterations, accepted with optimizer: adam: at least"
            " 0.00416667, for less changes no pixel",
        ),
        (
            {"content_weight": 0, "style_weight": 0},
            "(spec)",
            None,
            "content_weight and style_weight cannot both be 0",
        ),
        (
            {"content_layers": {}, "strength": 0},
            "(spec)",
            None,
            "strength is 0, accepted with content_layers: {}: more than 0, for nothing else says"
            " what the result is to be",
        ),
        (
            {"content_layers": [], "style_weight": 0},
            "(spec)",
            None,
            "style_weight is 0, accepted with content_layers: {}: more than 0, for nothing else"
            " says what the result is to be",
        ),
        (
            {"styles": [{"asset": PAINTING, "mask": "x"}]},
            "styles.0.mask",
            "x",
            "Where this style applies: the id of a grey picture, 64 hex digits",
        ),
        (
            {"format": "jpeg", "bits": 16},
            "(spec)",
            None,
            "bits is 16, accepted with format: jpeg: 8; 16 needs png",
        ),
        (
            {"format": "webp", "size": 16_384},
            "(spec)",
            None,
            "size is 16384, accepted with format: webp: at most 16383",
        ),
        ({"sise": 5}, "sise", 5, f"one of the fields {', '.join(JobSpec.model_fields)}"),
    ],
)
def test_a_refusal_tells_field_value_and_what_is_accepted(
    fields: dict[str, Any], field: str, value: object, accepted: str
) -> None:
    (violation,) = refused(**fields)

    assert (violation.field, violation.value) == (field, value)
    assert violation.accepted.startswith(accepted)


def test_lists_have_their_bounds() -> None:
    assert len(read(styles=[PAINTING] * 8).styles) == 8
    assert len(read(labels={str(n): "x" for n in range(16)}).labels) == 16

    for fields in ({"styles": [PAINTING] * 9}, {"labels": {str(n): "x" for n in range(17)}}):
        (violation,) = refused(**fields)
        assert [violation.field] == list(fields)
        assert violation.accepted == ACCEPTED[violation.field]


def test_what_is_missing_is_reported() -> None:
    with pytest.raises(ValidationError) as caught:
        JobSpec.model_validate({})

    assert [(v.field, v.accepted) for v in violations(caught.value, JobSpec)] == [
        ("content", f"required: {ACCEPTED['content']}"),
        ("styles", "required: a list of 1 to 8 items"),
    ]


def test_every_field_says_what_it_is() -> None:
    for name, field in JobSpec.model_fields.items():
        assert field.description, name


# Meaning.


def test_the_defaults_are_those_that_are_told() -> None:
    assert read().model_dump() == {
        "content": PHOTO,
        "styles": [{"asset": PAINTING, "weight": 1.0, "mask": None}],
        "size": 512,
        "iterations": 120,
        "patience": 0,
        "pyramid": 3,
        "strength": 0.5,
        "optimizer": "lbfgs",
        "learning_rate": 1.0,
        "init": "content",
        "init_asset": None,
        "seed": 0,
        "content_layers": {"relu3_2": 0.5, "relu4_2": 0.5},
        "style_layers": {f"relu{block}_1": 0.2 for block in range(1, 6)},
        "content_weight": None,
        "style_weight": None,
        "tv_weight": 0.05,
        "normalize_gradients": False,
        "pooling": "max",
        "style_scale": 1.0,
        "original_colors": "none",
        "content_colors": "style",
        "finish": "smooth",
        "recipe": None,
        "snapshot_format": "jpeg",
        "precision": "auto",
        "format": "png",
        "bits": 8,
        "quality": 92,
        "snapshot_every": 50,
        "exact": False,
        "priority": 0,
        "labels": {},
        "deadline_seconds": None,
    }


def test_the_learning_rate_follows_the_optimizer_unless_it_is_given() -> None:
    assert read(optimizer="adam").learning_rate == 10
    assert read(optimizer="adam", learning_rate=None).learning_rate == 10
    assert read(optimizer="adam", learning_rate=1).learning_rate == 1


def test_what_is_left_out_beside_a_weight_is_the_reports() -> None:
    for weights in ({"style_weight": 7.0}, {"content_weight": 1.0}, {"normalize_gradients": True}):
        asked = read(**weights)
        assert asked.strength is None
        assert (asked.content_weight, asked.tv_weight, asked.pyramid) == (1.0, 0.0, 2)
        assert asked.iterations == 200
        assert asked.content_layers == {"relu4_2": 1.0}
        assert (asked.content_colors, asked.pooling, asked.finish) == ("own", "avg", "none")
        assert read(**asked.model_dump()) == asked


@pytest.mark.parametrize(
    "weights", [{"style_weight": 7.0}, {"content_weight": 0}, {"normalize_gradients": True}]
)
def test_strength_and_weights_are_two_ways_to_say_one_thing(weights: dict[str, Any]) -> None:
    name, value = next(iter(weights.items()))
    with pytest.raises(ValidationError, match=f"strength is 0.2 beside a {name} of .*one of the"):
        read(strength=0.2, **weights)
    assert read(strength=0.2, **{name: False if value is True else None}).strength == 0.2


def test_a_pyramid_leads_up_from_128_px() -> None:
    sizes = {64: 1, 127: 1, 128: 1, 256: 2, 511: 2, 512: 3, 1024: 4, 2048: 5, 4096: 6, 16384: 6}
    assert {size: read(size=size).pyramid for size in sizes} == sizes
    assert read(size=1024, pyramid=2).pyramid == 2


def test_who_keeps_the_photographs_colours_does_not_change_them_first() -> None:
    for kept in ("luminance", "histogram", "covariance"):
        assert read(original_colors=kept).content_colors == "own"
        with pytest.raises(ValidationError, match="content_colors is style, accepted with orig"):
            read(original_colors=kept, content_colors="style")


@pytest.mark.parametrize("name", recipes.NAMES)
def test_a_recipe_is_its_fields_and_what_is_named_beside_it_goes_first(name: Any) -> None:
    asked = read(recipe=name)
    fields = recipes.RECIPES[name].fields
    assert {field: getattr(asked, field) for field in fields} == fields
    assert asked.digest() == read(**fields).digest()
    assert read(**asked.model_dump()) == asked
    assert read(recipe=name, iterations=9).iterations == 9
    assert read(recipe=name, strength=0.9).style_weight is None
    assert read(recipe=name, style_weight=9.0).strength is None


@pytest.mark.parametrize(
    "given",
    [
        {"strength": 0.9},
        {"style_weight": 5.0},
        {"content_weight": 0.0},
        {"normalize_gradients": True},
        {"recipe": "report"},
        {"recipe": "bold"},
        {"original_colors": "luminance"},
        {"size": 99},
    ],
)
@pytest.mark.parametrize("written", [{}, {"style_weight": 7.0}, {"recipe": "gatys-2015"}])
def test_what_is_given_goes_before_a_spec_that_was_written_out(
    written: dict[str, Any], given: dict[str, Any]
) -> None:
    asked = read(**overridden(read(**written).model_dump(), given))
    told = recipes.RECIPES[given["recipe"]].fields if "recipe" in given else given
    assert {name: getattr(asked, name) for name in told} == told
    assert (asked.strength is None) != (asked.style_weight is None)


def test_the_style_weight_follows_the_size_unless_it_is_given() -> None:
    for size, weight in ((512, 1600), (256, 400), (1024, 6400)):
        assert read(size=size, content_weight=1).style_weight == weight
        assert read(size=size, style_weight=1).style_weight == 1
        assert read(size=size, normalize_gradients=True).style_weight == 5


@pytest.mark.parametrize(
    ("name", "style", "content"),
    [
        ("relu4_2", "relu4_2", "relu4_2"),
        ("conv4_2", "relu4_2", "relu4_2"),
        (" Conv4_2 ", "relu4_2", "relu4_2"),
        ("block4", "relu4_1", "relu4_2"),
        ("BLOCK1", "relu1_1", "relu1_2"),
    ],
)
def test_a_layer_has_many_names_and_one_meaning(name: str, style: str, content: str) -> None:
    asked = read(style_layers={name: 2.0}, content_layers=[name])

    assert asked.style_layers == {style: 2.0}
    assert asked.content_layers == {content: 1.0}


def test_there_are_sixteen_layers() -> None:
    assert len(LAYERS) == 16
    assert LAYERS[:3] == ("relu1_1", "relu1_2", "relu2_1")
    assert LAYERS[-1] == "relu5_4"


def test_layers_stand_in_the_order_of_the_network() -> None:
    asked = read(style_layers={"relu5_1": 1.0, "relu1_1": 2.0, "relu3_4": 3.0})

    assert list(asked.style_layers) == ["relu1_1", "relu3_4", "relu5_1"]


def test_layers_without_weights_share_equally() -> None:
    assert read(style_layers=["block5", "block1"]).style_layers == {"relu1_1": 0.5, "relu5_1": 0.5}


def test_a_texture_asks_for_nothing_of_the_content() -> None:
    assert read(content_layers=[]).content_layers == {}
    assert read(recipe="texture").content_layers == {}


def test_the_shares_of_the_styles_add_up_to_one() -> None:
    shares = [style.weight for style in read(styles=[PAINTING, weighted(SKETCH, 3)]).styles]

    assert shares == [0.25, 0.75]


def test_a_share_is_scaled_and_its_mask_stays() -> None:
    asked = read(styles=[{"asset": PAINTING, "mask": MASK}, SKETCH])

    assert [(style.weight, style.mask) for style in asked.styles] == [(0.5, MASK), (0.5, None)]


@pytest.mark.parametrize(
    ("size", "style_scale", "side"),
    [(512, 1, 512), (511, 0.5, 256), (64, 0.1, 6), (4096, 4, 4096), (16_384, 1, 4096)],
)
def test_a_style_is_scaled_with_the_size_up_to_a_bound(
    size: int, style_scale: float, side: int
) -> None:
    assert read(size=size, style_scale=style_scale).style_side == side


def test_the_pictures_that_are_needed_are_each_named_once() -> None:
    masked = {"asset": PAINTING, "mask": MASK}
    asked = read(styles=[masked, SKETCH, masked], init="asset", init_asset=PHOTO)

    assert asked.assets() == [PHOTO, PAINTING, MASK, SKETCH]


# Specs as clients write them, in plain JSON.


def weighted(asset: str, weight: float, mask: str | None = None) -> dict[str, Any]:
    return {"asset": asset, "weight": weight, "mask": mask}


assets = st.sampled_from([PHOTO, PAINTING, SKETCH])
styles = st.builds(weighted, assets, st.integers(1, 9), st.none() | assets)
layers = st.dictionaries(st.sampled_from(LAYERS), st.integers(1, 1000), min_size=1)
factors = st.floats(1e-12, 1e12)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
written = st.fixed_dictionaries(
    {
        "content": assets,
        "styles": st.lists(styles, min_size=1, max_size=8),
    },
    optional={
        "size": st.integers(64, 1024),
        "iterations": st.integers(1, 10_000),
        "optimizer": st.sampled_from(["lbfgs", "adam"]),
        "learning_rate": st.none() | st.floats(0.5, 255),
        "init": st.sampled_from(["content", "noise", "style"]),
        "seed": st.integers(0, 2**53 - 1),
        "content_layers": layers,
        "style_layers": layers,
        "content_weight": st.floats(1e-9, 1e12),
        "style_weight": factors,
        "tv_weight": st.just(0.0) | factors,
        "pooling": st.sampled_from(["avg", "max"]),
        "style_scale": st.floats(0.1, 4),
        "original_colors": st.sampled_from(["none", "luminance", "histogram", "covariance"]),
        "normalize_gradients": st.booleans(),
        "pyramid": st.integers(1, 6),
        "patience": st.integers(0, 10_000),
        "format": st.sampled_from(["png", "jpeg", "webp"]),
        "quality": st.integers(1, 100),
        "precision": st.sampled_from(["auto", "float32", "bfloat16"]),
        "snapshot_every": st.integers(0, 10_000),
        "priority": st.integers(-100, 100),
        "labels": st.dictionaries(st.from_regex(r"\A[a-z./-]{1,9}\Z"), st.just("x"), max_size=3),
        "deadline_seconds": st.none() | st.floats(1, 1000),
    },
)


@unhurried
@given(written)
def test_a_stored_spec_that_is_read_again_is_itself_to_the_bit(fields: dict[str, Any]) -> None:
    asked = JobSpec.model_validate(fields)
    stored = json.dumps(asked.model_dump(mode="json"))

    again = JobSpec.model_validate(json.loads(stored))

    assert json.dumps(again.model_dump(mode="json")) == stored
    assert again.digest() == asked.digest()


@unhurried
@given(written, st.data())
def test_equal_meaning_has_an_equal_digest(fields: dict[str, Any], data: st.DataObject) -> None:
    asked = JobSpec.model_validate(fields)
    factor = data.draw(st.integers(1, 100), "factor of the styles' weights")

    other = asked.model_dump()  # with the defaults
    other["styles"] = [{**s, "weight": s["weight"] * factor} for s in fields["styles"]]
    for name in ("content_layers", "style_layers"):
        spelt = {data.draw(spellings(layer)): weight for layer, weight in other[name].items()}
        other[name] = dict(data.draw(st.permutations(list(spelt.items()))))
    if asked.init != "noise":
        other["seed"] += 1 if asked.seed == 0 else -1  # decides nothing
    if asked.format == "png":
        other["quality"] = 101 - asked.quality  # nor does this
    other |= {"snapshot_every": 7, "exact": True, "priority": 7}
    other |= {"labels": {"a": "b"}, "deadline_seconds": 7.0}
    other = dict(data.draw(st.permutations(list(other.items()))))

    assert JobSpec.model_validate(other).digest() == asked.digest()
    assert digest(asked.render_spec()) == asked.digest()


def spellings(layer: str) -> st.SearchStrategy[str]:
    return st.sampled_from([layer, layer.replace("relu", "conv"), f" {layer.upper()}"])


@unhurried
@given(written, written)
def test_another_meaning_has_another_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    specs = [JobSpec.model_validate(fields) for fields in (one, other)]
    assume(meaning(specs[0]) != meaning(specs[1]))

    assert specs[0].digest() != specs[1].digest()


def meaning(asked: JobSpec) -> dict[str, Any]:
    """What decides the picture, its numbers exactly."""
    fields = asked.render_spec().model_dump()
    if asked.init != "noise":
        del fields["seed"]
    if asked.format == "png":
        del fields["quality"]
    return fields


# For each field that decides the picture, one that differs from `BASE` in nothing else.
BASE = {**LEAST, "init": "noise", "format": "webp"}
OTHER = {
    "content": {"content": SKETCH},
    "styles": {"styles": [SKETCH]},
    "size": {"size": 511},
    "iterations": {"iterations": 201},
    "patience": {"patience": 20},
    "pyramid": {"pyramid": 4},
    "strength": {"strength": 0.501},
    "optimizer": {"optimizer": "adam", "learning_rate": 1.0},
    "learning_rate": {"learning_rate": 1.001},
    "init": {"init": "content"},
    "init_asset": {"init": "asset", "init_asset": SKETCH},
    "seed": {"seed": 2**53 - 1},
    "content_layers": {"content_layers": {"relu4_2": 1.0001}},
    "style_layers": {"style_layers": {"relu1_1": 1.0}},
    "content_weight": {"content_weight": 1.0001},
    "content_colors": {"content_colors": "own"},
    "finish": {"finish": "none"},
    "style_weight": {"style_weight": 999.99},
    "tv_weight": {"tv_weight": 1e-11},
    "normalize_gradients": {"normalize_gradients": True},
    "pooling": {"pooling": "avg"},
    "style_scale": {"style_scale": 1.001},
    "original_colors": {"original_colors": "luminance"},
    "precision": {"precision": "float32"},
    "format": {"format": "png"},
    "bits": {"format": "png", "bits": 16},
    "quality": {"quality": 91},
}


def test_every_field_of_the_picture_is_in_the_digest() -> None:
    assert set(OTHER) == set(RenderSpec.model_fields) - {"recipe"}  # its fields say it

    digests = {name: read(**{**BASE, **fields}).digest() for name, fields in OTHER.items()}
    digests["none"] = read(**BASE).digest()
    digests["shares"] = read(**BASE | {"styles": [PAINTING, SKETCH]}).digest()
    masked = {"asset": PAINTING, "mask": MASK}
    digests["mask"] = read(**BASE | {"styles": [masked]}).digest()
    digests["other shares"] = read(**BASE | {"styles": [PAINTING, weighted(SKETCH, 2)]}).digest()
    assert len(set(digests.values())) == len(digests)


def test_the_last_bits_of_a_number_and_its_sign_at_zero_mean_nothing() -> None:
    assert read(style_weight=0.1 + 0.2).digest() == read(style_weight=0.3).digest()
    assert read(tv_weight=-0.0).digest() == read(tv_weight=0).digest()
    third = {"relu1_1": 1 / 3, "relu2_1": 1 - 2 / 3}
    assert (
        read(style_layers=third).digest() == read(style_layers=dict.fromkeys(third, 1 / 3)).digest()
    )


def test_a_digest_stays_what_it_is() -> None:
    # It names the pictures of old jobs: whoever makes it another one raises SPEC_VERSION.
    expected = "9fd035ff3334d98c539eb74e33ff32bfa35021b37af7bf38424c747a802c0eb6"
    assert read(style_weight=100.0).digest() == expected


# The canvas.


@unhurried
@given(st.integers(1, 60_000), st.integers(1, 60_000), st.integers(64, 16_384))
def test_the_canvas_has_the_long_side_and_the_proportions(
    width: int, height: int, long_side: int
) -> None:
    scaled = canvas(width, height, long_side)

    assert max(scaled) == long_side
    exact = Fraction(long_side * min(width, height), max(width, height))
    assert min(scaled) == 1 or abs(min(scaled) - exact) <= Fraction(1, 2) + Fraction(1, 10**6)
    assert canvas(height, width, long_side) == scaled[::-1]
    assert (scaled[0] >= scaled[1]) == (width >= height) or scaled[0] == scaled[1]


def read(**fields: Any) -> JobSpec:
    return JobSpec.model_validate(LEAST | fields)


def refused(**fields: Any) -> list[Violation]:
    with pytest.raises(ValidationError) as caught:
        read(**fields)
    return violations(caught.value, JobSpec)
