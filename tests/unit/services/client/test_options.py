from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, Field
from rich.text import Text
from typer.testing import CliRunner

from impasto.services.client import InvalidSpec, Order, options
from impasto.services.client.fields import fields
from impasto.shared.settings import Settings
from impasto.shared.spec import JobSpec
from tests.arrange.pictures import paint

ARGUMENTS = {"content", "styles"}
SPEC_OPTIONS = options.of(JobSpec, panel="Spec", but=ARGUMENTS)
PICTURE = Path(__file__)  # any file that exists

# For each field: what a person types, and what it means. None of it is the default.
TYPED: dict[str, tuple[str, Any]] = {
    "size": ("256", 256),
    "iterations": ("7", 7),
    "patience": ("20", 20),
    "pyramid": ("4", 4),
    "strength": ("0.25", 0.25),
    "optimizer": ("adam", "adam"),
    "learning_rate": ("0.5", 0.5),
    "init": ("asset", "asset"),
    "init_asset": (str(PICTURE), PICTURE),
    "seed": ("9007199254740991", 2**53 - 1),
    "content_layers": ("conv3_1,conv4_2", ["conv3_1", "conv4_2"]),
    "style_layers": ("relu1_1=0.25,block2=1", {"relu1_1": 0.25, "block2": 1}),
    "content_weight": ("0", 0),
    "style_weight": ("1e5", 1e5),
    "tv_weight": ("1", 1),
    "normalize_gradients": ("", True),
    "pooling": ("avg", "avg"),
    "style_scale": ("1.5", 1.5),
    "original_colors": ("luminance", "luminance"),
    "content_colors": ("own", "own"),
    "finish": ("none", "none"),
    "recipe": ("bold", "bold"),
    "snapshot_format": ("png", "png"),
    "precision": ("float32", "float32"),
    "format": ("webp", "webp"),
    "bits": ("16", 16),
    "quality": ("50", 50),
    "snapshot_every": ("0", 0),
    "exact": ("", True),
    "priority": ("-3", -3),
    "labels": ("shop=4", {"shop": "4"}),
    "deadline_seconds": ("60", 60),
}

Run = Callable[..., Any]


def typed(option: options.Option) -> str:
    text, _ = TYPED[option.field.name]
    return f"{option.name}={text}" if text else option.name  # a flag is all that is typed


def taking(offered: list[options.Option], received: dict[str, Any]) -> typer.Typer:
    """A command with these options, which tells what it was given."""
    app = typer.Typer()

    def command(**given: Any) -> None:
        received.update(given)

    app.command()(options.with_options(command, offered))
    return app


@pytest.fixture
def run() -> Run:
    """`run(*args)` gives the fields that a command with the spec's options receives."""

    def run(*args: str) -> dict[str, Any]:
        received: dict[str, Any] = {}
        result = CliRunner().invoke(taking(SPEC_OPTIONS, received), args)
        assert result.exit_code == 0, result.output
        return received

    return run


def test_no_layer_is_typed_as_none(run: Run) -> None:
    assert run("--content-layers=none") == {"content_layers": []}


def test_every_field_of_the_spec_has_an_option_or_is_an_argument() -> None:
    offered = {option.field.name for option in SPEC_OPTIONS}
    assert offered == set(JobSpec.model_fields) - ARGUMENTS
    assert offered == set(TYPED), "a new field: say above how it is typed"


@pytest.mark.parametrize("option", SPEC_OPTIONS, ids=lambda option: option.name)
def test_what_is_typed_is_what_the_spec_takes(run: Run, option: options.Option) -> None:
    _, meaning = TYPED[option.field.name]
    assert run(typed(option)) == {option.field.name: meaning}


def test_all_options_together_make_a_spec(run: Run) -> None:
    given = run(*map(typed, SPEC_OPTIONS))
    given["bits"] = 8  # 16 goes with png alone
    del given["strength"]  # instead of the weights
    spec = Order.of(paint(1), paint(2), **given).spec
    default = Order.of(paint(1), paint(2)).spec
    unchanged = {name for name in TYPED if getattr(spec, name) == getattr(default, name)}
    assert unchanged == {"bits"}


def test_what_is_not_typed_is_left_to_the_spec(run: Run) -> None:
    assert run() == {}


def test_labels_are_repeated(run: Run) -> None:
    assert run("--label", "a=1", "--label", "b=2=3") == {"labels": {"a": "1", "b": "2=3"}}


def test_the_spec_itself_refuses_what_is_no_number(run: Run) -> None:
    with pytest.raises(InvalidSpec, match="size is 'large', accepted: a whole number"):
        Order.of(paint(1), paint(2), **run("--size", "large"))


def test_the_help_tells_defaults_and_bounds() -> None:
    app = taking(SPEC_OPTIONS, {})
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400"}).output
    help = Text.from_ansi(output).plain  # GitHub's runners are always given colours
    for field in fields(JobSpec):
        if field.name not in ARGUMENTS:
            assert field.terms in help
    assert "[64 to 16384, default 512]" in help
    assert "{layer: weight} or [layer]" in help


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("size", "64 to 16384, default 512"),
        ("bits", "8 | 16, default 8"),
        ("normalize_gradients", "default off"),
        ("learning_rate", "0.0001 to 255"),
        ("seed", "0 to 9.01e+15, default 0"),
        ("optimizer", "lbfgs | adam, default lbfgs"),
        ("style_scale", "0.1 to 4, default 1"),
        ("content_layers", "LAYER,… or LAYER=WEIGHT,… or none, default relu3_2,relu4_2"),
        ("styles", "1 to 8 pictures"),
        ("labels", ""),
    ],
)
def test_terms_are_read_from_the_model(name: str, terms: str) -> None:
    assert {field.name: field.terms for field in fields(JobSpec)}[name] == terms


def test_every_setting_has_an_option() -> None:
    offered = options.of(Settings, panel="Settings")
    received: dict[str, Any] = {}
    CliRunner().invoke(taking(offered, received), ["--port", "1", "--device", "cpu"])
    assert received == {"port": 1, "device": "cpu"}
    assert {option.field.name for option in offered} == set(Settings.model_fields)


def test_a_field_that_nobody_could_type_is_reported() -> None:
    class Model(BaseModel):
        nested: list[list[int]] = Field(default=[], description="...")

    with pytest.raises(TypeError, match="nested"):
        fields(Model)
