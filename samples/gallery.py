"""Render one sheet for each knob into docs/gallery: `make gallery`.

Every tile goes the way of a job's picture, from a spec through the worker's own functions to an
encoded file, and its caption says what the spec has that the default has not. With a folder of
photographs and paintings the recipes are shown on them; without it, those sheets are left out.
"""

import argparse
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.own import Renderer
from impasto.shared.recipes import NAMES
from impasto.shared.spec import JobSpec

SAMPLES = Path(__file__).parent
SHEETS = SAMPLES.parent / "docs" / "gallery"
CAPTION, GAP = 18, 6  # px

Spec = dict[str, Any]


def picture(painted: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(painted.clip(0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def mosaic(side: int = 384) -> np.ndarray:
    """Tiles in four colours with dark joints: a second style, as far from strokes as can be."""
    rng = np.random.default_rng(3)
    seeds, rows, columns = rng.random((260, 2)) * side, *np.ogrid[:side, :side]
    distances = np.stack([(rows - y) ** 2 + (columns - x) ** 2 for y, x in seeds])
    nearest, next_to_it = np.sort(np.sqrt(distances), axis=0)[:2]
    glass = np.array([(196, 60, 44), (240, 190, 70), (38, 96, 150), (236, 228, 206)], float)
    tiles = glass[rng.integers(0, 4, 260)] + rng.normal(0, 14, (260, 1))
    joints = np.clip((next_to_it - nearest) / 4, 0, 1)[..., None]
    return 28 + (tiles[distances.argmin(axis=0)] - 28) * joints


def masks(width: int = 768, height: int = 512) -> tuple[np.ndarray, np.ndarray]:
    """The sky and what is below, with a soft edge along the skyline's horizon."""
    rows = np.linspace(0, 1, height)[:, None] * np.ones((1, width))
    sky = 255 * np.clip((0.6 - rows) / 0.06 + 0.5, 0, 1)
    return sky, 255 - sky


def with_a_hole(file: bytes) -> bytes:
    """The picture, transparent outside an ellipse."""
    image = Image.open(io.BytesIO(file)).convert("RGBA")
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse((20, 20, image.width - 20, image.height - 20), fill=255)
    image.putalpha(alpha)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Pictures:
    """Files by the SHA-256 of their bytes, as in the storage."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.skyline = self._add((SAMPLES / "skyline.jpg").read_bytes())
        self.strokes = self._add((SAMPLES / "brushstrokes.jpg").read_bytes())
        self.mosaic = self._add(picture(mosaic()))
        self.sky, self.town = (self._add(picture(mask)) for mask in masks())
        self.cutout = self._add(with_a_hole(self[self.skyline]))

    def __getitem__(self, asset: str) -> bytes:
        return self.files[asset]

    def _add(self, file: bytes) -> str:
        asset = hashlib.sha256(file).hexdigest()
        self.files[asset] = file
        return asset


def sheets(p: Pictures) -> dict[str, dict[str, Spec]]:
    """Sheet to caption to what differs from the common spec."""
    both = [p.strokes, p.mosaic]
    shares = {
        f"{share} : {4 - share}": {
            "styles": [
                {"asset": asset, "weight": weight}
                for asset, weight in zip(both, (share, 4 - share), strict=True)
                if weight
            ]
        }
        for share in (4, 3, 2, 1, 0)
    }
    in_regions = [{"asset": p.strokes, "mask": p.sky}, {"asset": p.mosaic, "mask": p.town}]
    from_mosaic = {"init": "asset", "init_asset": p.mosaic}
    return {
        "strength": {f"strength {s:g}": {"strength": s} for s in (0.1, 0.25, 0.5, 0.75, 1.0)},
        "styles": shares,
        "masks": {
            "strokes": {},
            "mosaic": {"styles": [p.mosaic]},
            "strokes in the sky, mosaic below": {"styles": in_regions},
        },
        "style-scale": {f"style_scale {s:g}": {"style_scale": s} for s in (0.5, 1.0, 2.0)},
        "size": {f"size {size}": {"size": size} for size in (256, 512, 768)},
        "original-colors": {
            name: {"original_colors": name}
            for name in ("none", "luminance", "covariance", "histogram")
        },
        "content-colors": {f"content_colors {c}": {"content_colors": c} for c in ("style", "own")},
        "layers": {
            "content relu3_2, relu4_2": {},
            "content relu2_2": {"content_layers": ["relu2_2"]},
            "content relu5_2": {"content_layers": ["relu5_2"]},
            "style relu1_1, relu2_1": {"style_layers": ["relu1_1", "relu2_1"]},
            "style relu4_1, relu5_1": {"style_layers": ["relu4_1", "relu5_1"]},
        },
        "finish": {f"finish {name}": {"finish": name} for name in ("smooth", "none")},
        "tv-weight": {f"tv_weight {w:g}": {"tv_weight": w} for w in (0.0, 0.05, 0.5, 2.0)},
        "pyramid": {f"pyramid {n}": {"pyramid": n} for n in (1, 2, 3)},
        "init": {
            "content": {},
            "noise": {"init": "noise"},
            "style": {"init": "style"},
            "another picture": from_mosaic,
        },
        "pooling": {pool: {"pooling": pool} for pool in ("avg", "max")},
        "optimizer": {name: {"optimizer": name} for name in ("lbfgs", "adam")},
        "style-weight": {
            f"style_weight {w:g}": {"style_weight": w} for w in (10.0, 100.0, 1e3, 1e4)
        },
        "normalize-gradients": {
            f"normalized, style_weight {weight:g}": {
                "normalize_gradients": True,
                "style_weight": weight,
            }
            for weight in (1.0, 5.0, 25.0)
        },
        "formats": {
            "png, alpha kept": {"content": p.cutout},
            "webp, alpha kept": {"content": p.cutout, "format": "webp", "quality": 80},
            "jpeg, on white": {"content": p.cutout, "format": "jpeg"},
            "png, 16 bits": {"bits": 16},
        },
    }


RECIPE_PAIRS = ("golden-gate", "the-scream"), ("puppy-dog", "great-wave")  # of a folder


def recipes(folder: Path, renderer: Renderer, size: int) -> Image.Image:
    """A row for each pair, a column for each recipe, all of one size."""
    names = [name for name in NAMES if name != "print"]  # it is the default, large
    rows = []
    for photograph, painting in RECIPE_PAIRS:
        files = [(folder / f"{name}.jpg").read_bytes() for name in (photograph, painting)]
        content, style = map(renderer.add, files)
        specs = [
            JobSpec.model_validate(
                {"content": content, "styles": [style], "recipe": name, "size": size}
            )
            for name in names
        ]
        made = [Image.open(io.BytesIO(renderer.render(spec))) for spec in specs]
        given = [Image.open(io.BytesIO(file)).resize(made[0].size) for file in files]
        captions = "photograph", "painting", *names
        rows.append(sheet(dict(zip(captions, given + made, strict=True))))
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    return whole


def sheet(tiles: Mapping[str, Image.Image]) -> Image.Image:
    """The tiles in a row, each above its caption, on a chequer where they are transparent.

    All are as large as the first.
    """
    width, height = next(iter(tiles.values())).size
    canvas = Image.new("RGB", (len(tiles) * (width + GAP) - GAP, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    chequer = (np.indices((height, width)) // 8).sum(axis=0) % 2 * 40 + 200
    for i, (caption, tile) in enumerate(tiles.items()):
        left = i * (width + GAP)
        under = Image.fromarray(chequer.astype(np.uint8)).convert("RGBA")
        scaled = tile.convert("RGBA").resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(Image.alpha_composite(under, scaled), (left, 0))
        draw.text((left + 2, height + 2), caption, "black", font)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="the sheets to render; default: all")
    parser.add_argument("--size", type=int, default=256, help="a tile's long side, in px")
    parser.add_argument("--pictures", type=Path, help="a folder of photographs and paintings")
    arguments = parser.parse_args()
    pictures = Pictures()
    offered = sheets(pictures)
    known = {*offered, *(["recipes"] if arguments.pictures else [])}
    if unknown := set(arguments.names) - known:
        parser.error(f"no sheet is called {unknown.pop()}; accepted: {', '.join(sorted(known))}")
    common = {"content": pictures.skyline, "styles": [pictures.strokes], "size": arguments.size}
    renderer = Renderer(files=pictures.files)
    SHEETS.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or sorted(known):
        target = SHEETS / f"{name}.jpg"
        if name == "recipes":
            recipes(arguments.pictures, renderer, arguments.size).save(target, quality=88)
        else:
            tiles = {
                caption: Image.open(
                    io.BytesIO(renderer.render(JobSpec.model_validate({**common, **different})))
                )
                for caption, different in offered[name].items()
            }
            sheet(tiles).save(target, quality=88)
        print(target.name, flush=True)


if __name__ == "__main__":
    main()
