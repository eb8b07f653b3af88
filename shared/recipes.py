"""Settings that go together, by name: each is what fields of a spec would say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

RecipeName = Literal[
    "balanced",
    "gentle",
    "bold",
    "texture",
    "portrait",
    "print",
    "gatys-2015",
    "gatys-2016",
    "report",
]
NAMES: tuple[RecipeName, ...] = get_args(RecipeName)


@dataclass(frozen=True)
class Recipe:
    """meaning: one sentence for whoever chooses. fields: of a `RenderSpec`."""

    meaning: str
    fields: Mapping[str, Any]


# As the reports have it: one size, from noise, their losses alone.
_PLAIN: dict[str, Any] = {
    "init": "noise",
    "seed": 0,
    "pyramid": 1,
    "iterations": 1000,
    "optimizer": "lbfgs",
    "pooling": "avg",
    "content_layers": {"relu4_2": 1.0},
    "content_weight": 1.0,
    "tv_weight": 0.0,
    "content_colors": "own",
}
# Those of the report's successor weigh a layer of N channels by 1 / N^2.
_CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}
_INVERSE_SQUARES = {layer: (64 / count) ** 2 for layer, count in _CHANNELS.items()}

RECIPES: Mapping[RecipeName, Recipe] = {
    "balanced": Recipe(
        "The default: what the photograph shows, in the painting's colours and strokes.", {}
    ),
    "gentle": Recipe(
        "The photograph first: its shapes and faces stay, colours and a touch are the painting's.",
        {"strength": 0.25},
    ),
    "bold": Recipe("The painting first: large forms of the photograph remain.", {"strength": 0.9}),
    "texture": Recipe(
        "No photograph: a new picture that the painter might have made.",
        {
            "strength": 1.0,
            "content_layers": {},
            "init": "noise",
            "iterations": 200,
            "content_colors": "own",
            "pooling": "avg",
        },
    ),
    "portrait": Recipe(
        "Faces: eyes and mouths are kept by a finer layer, the rest as by default.",
        {"strength": 0.35, "content_layers": {"relu2_2": 0.4, "relu3_2": 0.3, "relu4_2": 0.3}},
    ),
    "print": Recipe(
        "Large, to be hung: 2048 px, strokes in proportion, 16 bits a channel.",
        {"size": 2048, "iterations": 160, "format": "png", "bits": 16},
    ),
    "gatys-2015": Recipe(
        "As arXiv:1508.06576 shows most: from noise, content to style 1 : 10,000.",
        {**_PLAIN, "style_weight": 1e4},
    ),
    "gatys-2016": Recipe(
        "As the code of Gatys et al. 2016 weighs: from the photograph, layers by 1 / N^2.",
        {
            **_PLAIN,
            "init": "content",
            "iterations": 500,
            "style_layers": _INVERSE_SQUARES,
            "style_weight": 7.7e5,
        },
    ),
    "report": Recipe(
        "Exactly the report's: noise of seed 0, content at block 4, 1 : 1000, 1000 iterations.",
        {
            **_PLAIN,
            "style_layers": dict.fromkeys(_CHANNELS, 1 / 5),
            "style_weight": 1e3,
        },
    ),
}


def find(name: object) -> Recipe | None:
    """The recipe of that name, if there is one."""
    return next((recipe for known, recipe in RECIPES.items() if known == name), None)
