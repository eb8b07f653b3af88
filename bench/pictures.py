"""The pictures that engines are measured on: content and style, eight pairs that differ."""

from importlib import metadata
from pathlib import Path
from typing import NamedTuple

SAMPLES = Path(__file__).parents[1] / "samples"


class Pair(NamedTuple):
    content: Path
    style: Path

    @property
    def name(self) -> str:
        return f"{self.content.stem} x {self.style.stem}"


def pairs(folder: Path | None) -> list[Pair]:
    """Our samples and what ships with scikit-image and scikit-learn, crossed.

    folder: of two photographs and two paintings, `shanghai`, `puppy-dog`, `great-wave` and
    `starry-night`, whose four pairs go first; without it, other pairs of the rest do.
    """
    skyline, strokes = SAMPLES / "skyline.jpg", SAMPLES / "brushstrokes.jpg"
    astronaut, cat, coffee, hubble, cells = (
        _installed("scikit-image", name)
        for name in (
            "astronaut.png",
            "chelsea.png",
            "coffee.png",
            "hubble_deep_field.jpg",
            "ihc.png",
        )
    )
    china, flower = (_installed("scikit-learn", name) for name in ("china.jpg", "flower.jpg"))
    rest = [
        Pair(skyline, strokes),
        Pair(china, cells),
        Pair(astronaut, strokes),
        Pair(cat, hubble),
    ]
    if folder is None:
        more = [(coffee, strokes), (flower, cells), (china, hubble), (skyline, cells)]
        return [Pair(*pair) for pair in more] + rest
    photographs = [folder / f"{name}.jpg" for name in ("shanghai", "puppy-dog")]
    paintings = [folder / f"{name}.jpg" for name in ("starry-night", "great-wave")]
    return [Pair(photo, painting) for photo in photographs for painting in paintings] + rest


def twelve(folder: Path) -> list[Pair]:
    """Photographs and paintings that pictures are judged by: towns, animals, a bridge, a face.

    folder: of four photographs and four paintings, `golden-gate` to `the-scream`.
    """
    names = (
        ("shanghai", "starry-night"),
        ("puppy-dog", "great-wave"),
        ("golden-gate", "the-scream"),
        ("tuebingen", "shipwreck"),
        ("shanghai", "great-wave"),
        ("puppy-dog", "starry-night"),
        ("golden-gate", "shipwreck"),
        ("tuebingen", "starry-night"),
    )
    scream, shipwreck = folder / "the-scream.jpg", folder / "shipwreck.jpg"
    return [
        *(Pair(folder / f"{photo}.jpg", folder / f"{painting}.jpg") for photo, painting in names),
        Pair(portrait(), scream),
        Pair(_installed("scikit-image", "chelsea.png"), shipwreck),
        Pair(_installed("scikit-learn", "china.jpg"), scream),
        Pair(SAMPLES / "skyline.jpg", SAMPLES / "brushstrokes.jpg"),
    ]


def portrait() -> Path:
    """A face, of a known sitter."""
    return _installed("scikit-image", "astronaut.png")


def _installed(package: str, name: str) -> Path:
    """A picture in an installed package, whichever folder it keeps them in."""
    for file in metadata.files(package) or ():
        if file.name == name:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{package} carries no {name}")
