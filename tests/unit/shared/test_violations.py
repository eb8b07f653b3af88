"""Pydantic's refusals in our words, for models of every kind of field."""

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from impasto.shared.errors import Violation
from impasto.shared.violations import presentable, violations


class Frame(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    width: int = Field(default=3, ge=2, lt=10)
    depth: int = Field(default=1, multiple_of=1)
    price: float | None = Field(default=None, gt=0.5, le=1e12)
    wood: Literal["oak", "ash"] = "oak"
    kind: Literal["gilded"] = "gilded"
    owner: str = Field(default="x", min_length=1, max_length=9)
    number: Annotated[str, Field(pattern="^N", description="N and digits")] = "N1"
    is_old: bool = False


Tag = Annotated[str, Field(max_length=3, description="a few letters")]


class Wall(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    frames: list[Frame] = Field(min_length=1, max_length=2)
    best: Frame | None = None
    tags: dict[Tag, Annotated[int, Field(ge=0)]] = Field(default={}, max_length=4)
    height: int = 1

    @field_validator("height")
    @classmethod
    def _fits(cls, height: int) -> int:
        if height > 5:
            raise ValueError("what the ceiling allows")
        return height

    @model_validator(mode="after")
    def _goes_together(self) -> "Wall":
        if self.best and self.best not in self.frames:
            raise ValueError("the best frame hangs here")
        return self


WIDTH = "a whole number, at least 2 and less than 10"
PRICE = "a finite number, more than 0.5 and at most 1000000000000"
FRAME = "width, depth, price, wood, kind, owner, number, is_old"


@pytest.mark.parametrize(
    ("wall", "field", "value", "accepted"),
    [
        ({"width": 1}, "width", 1, WIDTH),
        ({"width": 10}, "width", 10, WIDTH),
        ({"width": 2.5}, "width", 2.5, WIDTH),
        ({"width": "3"}, "width", "3", WIDTH),
        ({"width": None}, "width", None, WIDTH),
        ({"width": [3]}, "width", "[3]", WIDTH),
        ({"depth": "x"}, "depth", "x", "a whole number"),
        ({"price": 0.5}, "price", 0.5, PRICE),
        ({"price": float("nan")}, "price", "nan", PRICE),
        ({"price": float("-inf")}, "price", "-inf", PRICE),
        ({"price": True}, "price", True, PRICE),
        ({"wood": "elm"}, "wood", "elm", "one of oak, ash"),
        ({"kind": "plain"}, "kind", "plain", "one of gilded"),
        ({"owner": ""}, "owner", "", "text of 1 to 9 characters"),
        ({"owner": 7}, "owner", 7, "text of 1 to 9 characters"),
        ({"number": "7"}, "number", "7", "N and digits"),
        ({"is_old": 1}, "is_old", 1, "true or false"),
        ({"size": 1}, "size", 1, f"one of the fields {FRAME}"),
    ],
)
def test_a_refusal_tells_field_value_and_what_is_accepted(
    wall: dict[str, Any], field: str, value: object, accepted: str
) -> None:
    assert refused(frames=[wall]) == [Violation(f"frames.0.{field}", value, accepted)]
    assert refused(frames=[{}], best=wall) == [Violation(f"best.{field}", value, accepted)]


@pytest.mark.parametrize(
    ("fields", "field", "value", "accepted"),
    [
        ({}, "frames", None, "required: a list of 1 to 2 items"),
        ({"frames": []}, "frames", "[]", "a list of 1 to 2 items"),
        ({"frames": [{}, {}, {}]}, "frames", "[{}, {}, {}]", "a list of 1 to 2 items"),
        ({"frames": {}}, "frames", "{}", "a list of 1 to 2 items"),
        ({"frames": [7]}, "frames.0", 7, f"an object with {FRAME}"),
        ({"tags": {"a": -1}}, "tags.a", -1, "a whole number, at least 0"),
        ({"tags": {"long": 1}}, "tags.long", "long", "a few letters"),
        ({"tags": dict.fromkeys("abcde", 1)}, "tags", ..., "an object of 0 to 4 entries"),
        ({"height": 6}, "height", 6, "what the ceiling allows"),
        ({"best": {"width": 5}}, "(spec)", None, "the best frame hangs here"),
        ({"frame": 1}, "frame", 1, "one of the fields frames, best, tags, height"),
    ],
)
def test_refusals_of_lists_objects_and_whole_models(
    fields: dict[str, Any], field: str, value: object, accepted: str
) -> None:
    if "frames" not in fields and fields:
        fields = {"frames": [{}], **fields}

    (violation,) = refused(**fields)

    assert (violation.field, violation.accepted) == (field, accepted)
    assert value in (violation.value, ...)


def test_every_field_is_reported_once() -> None:
    found = refused(frames=[{"width": 1}, {"price": 0.0, "wood": "elm"}], height=9, extra=1)

    assert [violation.field for violation in found] == [
        "frames.0.width",
        "frames.1.price",
        "frames.1.wood",
        "height",
        "extra",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("text", "text"),
        ([1, "a"], "[1, 'a']"),
        (float("inf"), "inf"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 200 + "…"),
        ([0] * 10**5, "[" + "0, " * 66 + "0" + "…"),
    ],
    ids=repr,
)
def test_a_value_is_shown_short_and_as_json_allows(value: object, shown: object) -> None:
    assert presentable(value) == shown
    json.dumps(presentable(value), allow_nan=False)


def refused(**fields: Any) -> list[Violation]:
    with pytest.raises(ValidationError) as caught:
        Wall.model_validate(fields)
    return violations(caught.value, Wall)
