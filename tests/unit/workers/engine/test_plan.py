import math
from dataclasses import replace
from typing import Any

import pytest

from impasto.workers.engine.errors import PlanError
from impasto.workers.engine.plan import PLAIN


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("optimizer", "sgd", "one of lbfgs, adam"),
        ("init", "black", "one of noise, content, style, asset"),
        ("pooling", "median", "one of max, avg"),
        ("precision", "auto", "one of float32, bfloat16"),
        ("iterations", 0, "at least 1"),
        ("pyramid", 0, "at least 1"),
        ("patience", -1, "at least 0"),
        ("learning_rate", 0.0, "finite, more than 0"),
        ("learning_rate", math.nan, "finite, more than 0"),
        ("content_weight", math.nan, "finite, at least 0"),
        ("style_weight", -1.0, "finite, at least 0"),
        ("tv_weight", math.inf, "finite, at least 0"),
        ("style_layers", {"relu1_1": -1.0}, "finite, at least 0"),
        ("content_layers", {"relu9_1": 1.0}, "relu1_1, relu1_2"),
    ],
)
def test_a_plan_that_cannot_be_followed_says_what_can(
    field: str, value: Any, accepted: str
) -> None:
    with pytest.raises(PlanError) as caught:
        replace(PLAIN, **{field: value})
    assert accepted in str(caught.value)
    assert str(next(iter(value)) if isinstance(value, dict) else value) in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"iterations": 1, "pyramid": 1, "patience": 0},
        {"content_weight": 0.0, "style_weight": 0.0, "tv_weight": 0.0},
        {"content_layers": {}, "style_layers": {"conv5_4": 0.0}},
    ],
)
def test_the_least_of_everything_is_a_plan(values: dict[str, Any]) -> None:
    plan = replace(PLAIN, **values)
    assert {name: getattr(plan, name) for name in values} == values
