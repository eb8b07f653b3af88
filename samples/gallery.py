"""Render one sheet for each feature of the engine into docs/gallery: `make gallery`.

Every tile goes the way of a job's picture, from a spec through the worker's own functions to an
encoded file, and its caption says what the spec has that the others have not.
"""

import argparse
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from shared.pictures.pool import Decoders
from shared.spec import JobSpec
from workers import colors, images, weights
from workers.attempt import plan_of, style_of
from workers.engine.render import Render
from workers.engine.styles import StyleCache
from workers.engine.vgg import Vgg

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
        self._files: dict[str, bytes] = {}
        self.skyline = self._add((SAMPLES / "skyline.jpg").read_bytes())
        self.strokes = self._add((SAMPLES / "brushstrokes.jpg").read_bytes())
        self.mosaic = self._add(picture(mosaic()))
        self.sky, self.town = (self._add(picture(mask)) for mask in masks())
        self.cutout = self._add(with_a_hole(self[self.skyline]))

    def __getitem__(self, asset: str) -> bytes:
        return self._files[asset]

    def _add(self, file: bytes) -> str:
        asset = hashlib.sha256(file).hexdigest()
        self._files[asset] = file
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
        "styles": shares,
        "masks": {
            "strokes": {},
            "mosaic": {"styles": [p.mosaic]},
            "strokes in the sky, mosaic below": {"styles": in_regions},
        },
        "style-weight": {f"style_weight {w}": {"style_weight": w} for w in (10.0, 100.0, 1e3, 1e4)},
        "size": {
            f"size {size}": {"size": size, "style_weight": None, "tv_weight": 0.0}
            for size in (256, 512, 768)
        },
        "style-scale": {f"style_scale {s:g}": {"style_scale": s} for s in (0.5, 1.0, 2.0)},
        "pooling": {pool: {"pooling": pool} for pool in ("avg", "max")},
        "tv-weight": {f"tv_weight {w:g}": {"tv_weight": w} for w in (0.0, 10.0, 100.0)},
        "init": {
            "content": {},
            "noise": {"init": "noise"},
            "style": {"init": "style"},
            "another picture": from_mosaic,
        },
        "original-colors": {
            name: {"original_colors": name}
            for name in ("none", "luminance", "histogram", "covariance")
        },
        "layers": {
            "relu1_1 .. relu5_1": {},
            "style relu1_1, relu2_1": {"style_layers": ["relu1_1", "relu2_1"]},
            "style relu4_1, relu5_1": {"style_layers": ["relu4_1", "relu5_1"]},
            "content relu2_2": {"content_layers": ["relu2_2"]},
        },
        "normalize-gradients": {
            f"normalized, style_weight {weight:g}": {
                "normalize_gradients": True,
                "style_weight": weight,
                "tv_weight": 0.0,
            }
            for weight in (1.0, 5.0, 25.0)
        },
        "pyramid": {f"pyramid {n}, noise": {"pyramid": n, "init": "noise"} for n in (1, 2, 3)},
        "optimizer": {name: {"optimizer": name} for name in ("lbfgs", "adam")},
        "formats": {
            "png, alpha kept": {"content": p.cutout},
            "webp, alpha kept": {"content": p.cutout, "format": "webp", "quality": 80},
            "jpeg, on white": {"content": p.cutout, "format": "jpeg"},
            "png, 16 bits": {"bits": 16},
        },
    }


@dataclass
class Studio:
    vgg: Vgg
    pictures: Pictures
    common: Spec
    decoders: Decoders
    cache: StyleCache = field(default_factory=StyleCache)

    def tile(self, different: Mapping[str, Any]) -> Image.Image:
        """The file that a job with this spec would end with, opened."""
        spec = JobSpec.model_validate({**self.common, **different})
        decoded = self.decoders.decode(self.pictures[spec.content], spec.size)
        content, alpha = decoded.picture, decoded.alpha
        styles = [
            style_of(s, spec, content, self.pictures.__getitem__, self.decoders)
            for s in spec.styles
        ]
        init = None
        if spec.init_asset:
            init = torch.tensor(
                self.decoders.decode(self.pictures[spec.init_asset], spec.size).picture
            )
        plan = plan_of(spec, "float32")
        render = Render(plan, self.vgg, torch.tensor(content), styles, init=init, cache=self.cache)
        render.step()
        while not render.is_finished:
            render.step()
        image = render.image().numpy()
        if spec.original_colors == "luminance":
            image = colors.with_colors_of(image, content)
        file = images.encode(image, spec.format, bits=spec.bits, quality=spec.quality, alpha=alpha)
        return Image.open(io.BytesIO(file))


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
    parser.add_argument("--size", type=int, default=224, help="a tile's long side, in px")
    parser.add_argument("--iterations", type=int, default=60)
    arguments = parser.parse_args()
    pictures = Pictures()
    offered = sheets(pictures)
    if unknown := set(arguments.names) - set(offered):
        parser.error(f"no sheet is called {unknown.pop()}; accepted: {', '.join(offered)}")
    common = {
        "content": pictures.skyline,
        "styles": [pictures.strokes],
        "size": arguments.size,
        "iterations": arguments.iterations,
        "style_weight": 30.0,
        "tv_weight": 5.0,
    }
    vgg = Vgg(weights.load("caffe", Path("unused"), fetch=Path.read_bytes))
    studio = Studio(vgg, pictures, common, Decoders())
    SHEETS.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or offered:
        tiles = {caption: studio.tile(spec) for caption, spec in offered[name].items()}
        target = SHEETS / f"{name}.jpg"
        sheet(tiles).save(target, quality=85)
        print(f"{target.name}: {', '.join(tiles)}")


if __name__ == "__main__":
    main()
