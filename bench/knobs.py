"""What the knobs of the picture do, measured: `python -m bench.knobs --pictures FOLDER [NAME...]`.

strength: the judge's texture at five strengths, and its spread between pairs at 0.5 beside that of
equal weights. style-scale: how large strokes are. size: one pair at three sizes, shrunk to one.
grain: colours where the photograph is flat, and peaks at the periods of pools.
"""

import argparse
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.judge.distances import feature_distance, gram_distance
from bench.judge.judge import Judge, Pixels, Subject, Trunks, Verdict, mean, read, resized
from bench.own import Renderer
from bench.pictures import Pair, twelve
from bench.sheet import sheet
from impasto.shared.spec import STRENGTH

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
EQUAL_WEIGHT = 1_000.0  # at 256 px the same mean texture over the pairs as by half strength
SCALES = (0.5, 1.0, 2.0)
SIZES = (256, 512, 1024)


@dataclass
class Bench:
    pairs: Sequence[Pair]
    size: int
    keep: Path
    renderer: Renderer
    trunks: Trunks

    def picture(self, pair: Pair, size: int = 0, **fields: Any) -> Pixels:
        """As the file would hold it; rendered once for each question."""
        size = size or self.size
        asked = " ".join(f"{name}={value}" for name, value in sorted(fields.items()))
        file = self.keep / f"{pair.name} {size} {asked}.png"
        if not file.exists():
            self.keep.mkdir(parents=True, exist_ok=True)
            spec = self.renderer.spec(pair.content, pair.style, size=size, **fields)
            with torch.no_grad():
                image = self.renderer.image(spec)
            Image.fromarray(np.rint(image).astype(np.uint8)).save(file)
        return read(file)

    def judge(self, pair: Pair) -> Judge:
        return Judge(read(pair.content, self.size), read(pair.style, self.size), self.trunks)

    def sheet(self, name: str, rows: Sequence[Sequence[Pixels]], captions: Sequence[str]) -> None:
        sheet(rows, captions, tile=256).save(self.keep / f"{name}.png")


def strength(bench: Bench) -> None:
    """Monotonic for each pair, and less apart than equal weights leave the pairs."""
    by_strength, by_weight, rows, monotonic = [], [], [], 0
    for pair in bench.pairs:
        judge = bench.judge(pair)
        pictures = [bench.picture(pair, strength=s) for s in STRENGTHS]
        equal = bench.picture(pair, style_weight=EQUAL_WEIGHT)
        textures = [mean(judge.texture(judge.subject(p))) for p in pictures]
        by_strength.append(textures[STRENGTHS.index(0.5)])
        by_weight.append(mean(judge.texture(judge.subject(equal))))
        monotonic += textures == sorted(textures, reverse=True)
        apart = np.abs(pictures[0] - read(pair.content, bench.size)).max() * 255
        rows.append([*pictures, equal])
        told = " ".join(f"{texture:.3f}" for texture in textures)
        print(f"{pair.name:28} {told}  equal weight {by_weight[-1]:.3f}  at 0 off by {apart:.0f}")
    print(f"monotonic on {monotonic} of {len(bench.pairs)}; spread between pairs (sd) at 0.5:")
    print(f"  by strength {np.std(by_strength):.4f} of {np.mean(by_strength):.3f}")
    print(f"  by style_weight {np.std(by_weight):.4f} of {np.mean(by_weight):.3f}", flush=True)
    bench.sheet("strength", rows, [*(f"strength {s:g}" for s in STRENGTHS), "equal weight"])


def style_scale(bench: Bench) -> None:
    """Twice the scale, twice the strokes."""
    rows, ratios = [], []
    for pair in bench.pairs[:6]:
        pictures = [bench.picture(pair, style_scale=scale, strength=0.75) for scale in SCALES]
        strokes = Strokes(pair.style, bench.size, bench.trunks)
        scales = [strokes.scale(picture) for picture in pictures]
        ratios.append([after / before for before, after in itertools.pairwise(scales)])
        rows.append(pictures)
        print(f"{pair.name:28} {' '.join(f'{scale:5.2f}' for scale in scales)}", flush=True)
    low, high = np.median(ratios, axis=0)
    print(f"median ratios: 0.5 to 1 {low:.2f}, 1 to 2 {high:.2f}")
    bench.sheet("style-scale", rows, [f"style_scale {scale:g}" for scale in SCALES])


class Strokes:
    """How large a picture's strokes are: as those of its painting at which size.

    By the texture at layers that no recipe compares. Periods in the spectrum do not tell it: a
    painting that is enlarged has finer strokes to show, and its median period stays (measured: 4.0,
    3.7 and 4.0 px at half, once and twice the size).
    """

    def __init__(self, painting: Path, size: int, trunks: Trunks) -> None:
        """size: of the long side that counts as 1, px."""
        self._trunks = trunks
        self._octaves = np.arange(-2, 2.5, 0.5)
        sides = [round(size * 2**octave) for octave in self._octaves]
        self._paintings = [Subject(read(painting, side), trunks).vgg for side in sides]

    def scale(self, picture: Pixels) -> float:
        """1 for strokes as in the painting at `size`, 2 for twice as large ones."""
        ours = Subject(picture, self._trunks).vgg
        distances = np.array(
            [(feature_distance(ours, p), gram_distance(ours, p)) for p in self._paintings]
        )
        likeness = (distances / distances.mean(axis=0)).mean(axis=1)
        near = np.clip(np.argmin(likeness), 1, len(likeness) - 2) + np.arange(-1, 2)
        curve, slope, _ = np.polyfit(self._octaves[near], likeness[near], 2)
        lowest = -slope / (2 * curve) if curve > 0 else self._octaves[np.argmin(likeness)]
        return float(2 ** np.clip(lowest, *self._octaves[[0, -1]]))


def size(bench: Bench) -> None:
    """One look: the sizes differ by less than a third of what a quarter of strength changes."""
    pair = bench.pairs[2]
    judge = bench.judge(pair)
    shape = read(pair.content, bench.size).shape[:2]
    shrunk = [resized(bench.picture(pair, size=side), shape) for side in SIZES]
    halves = [bench.picture(pair, strength=s) for s in (0.25, 0.5)]
    with torch.no_grad():
        sizes = [judge.verdict(picture) for picture in shrunk]
        strengths = [judge.verdict(picture) for picture in halves]
    for side, verdict in zip(SIZES, sizes, strict=True):
        print(f"{side:5} px: {_told(verdict)}")
    for s, verdict in zip((0.25, 0.5), strengths, strict=True):
        print(f"strength {s:g}: {_told(verdict)}")
    apart = max(_apart(one, other) for one in sizes for other in sizes)
    unit = _apart(*strengths)
    print(
        f"{pair.name}: sizes {apart:.3f} apart at most, a quarter of strength {unit:.3f}",
        flush=True,
    )
    bench.sheet("size", [[*shrunk, *halves]], [*(f"{s} px" for s in SIZES), "0.25", "0.5"])


def _told(verdict: Verdict) -> str:
    return (
        f"palette {verdict.palette:.3f} texture {verdict.texture:.3f} content {verdict.content:.3f}"
    )


def _apart(one: Verdict, other: Verdict) -> float:
    parts = ("palette", "texture", "content")
    return float(np.linalg.norm([getattr(one, p) - getattr(other, p) for p in parts]))


def grain(bench: Bench) -> None:
    """Colours in flat places, over the smoother input's; peaks at the pools' periods."""
    found = []
    for pair in bench.pairs:
        judge = bench.judge(pair)
        seen = judge.artefacts(bench.picture(pair, strength=STRENGTH))
        found.append(seen)
        print(
            f"{pair.name:28} flat colour grain {seen.flat_chroma_grain:5.2f},"
            f" all {seen.chroma_grain:.2f}, peak {seen.peak:.2f}",
            flush=True,
        )
    flat = sum(one.flat_chroma_grain <= 1.2 for one in found)
    peaks = sum(one.peak <= 0.2 for one in found)
    print(f"at most 1.2 on {flat} of {len(found)}, no peak above 20 % on {peaks}")


KNOBS: Mapping[str, Callable[[Bench], None]] = {
    "strength": strength,
    "style-scale": style_scale,
    "size": size,
    "grain": grain,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="knobs", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(KNOBS)}; or all")
    parser.add_argument("--pictures", type=Path, required=True, help="the folder of the pairs")
    parser.add_argument("--size", type=int, default=256, help="long side, in px")
    parser.add_argument("--keep", type=Path, default=Path("out/knobs"), help="for the pictures")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(KNOBS):
        parser.error(f"no knob is called {unknown.pop()}; accepted: {', '.join(KNOBS)}")
    bench = Bench(twelve(asked.pictures), asked.size, asked.keep, Renderer(), Trunks())
    torch.set_grad_enabled(False)
    for name in asked.names or KNOBS:
        print(f"# {name}")
        KNOBS[name](bench)


if __name__ == "__main__":
    main()
