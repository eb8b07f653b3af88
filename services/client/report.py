"""What a render leaves besides its picture: the way there, as a strip and as a plot."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from . import files
from .client import Job

STRIP_MAX = 8  # pictures; more would be too small to compare
STRIP_HEIGHT = 240

PLOT_WIDTH, PLOT_HEIGHT = 1200, 675
LEFT, TOP, RIGHT, BOTTOM = 100, 110, 990, 590  # of the plot's frame; names stand to its right
DECADES_MAX = 6  # a part that starts near 0 must not flatten all others
ROW = 24  # of the sizes' names, above the frame
FINER = 2  # lines are drawn larger and scaled down, which smooths them

PAPER, INK, GREY, GRID = "#fffdf8", "#2a2522", "#857c74", "#e9e3da"
COLORS = {"total": INK, "content": "#2f6fb3", "style": "#d9582b", "tv": "#4b8f55"}
FACTORS = {"content": "content_weight", "style": "style_weight", "tv": "tv_weight"}


@dataclass(frozen=True)
class Curve:
    """One part of the loss, with its factor, which is named as it is at the last size."""

    name: str
    color: str
    points: list[tuple[int, float]]  # (iteration, loss)


@dataclass(frozen=True)
class Span:
    """The iterations that were made at one size of the pyramid."""

    name: str
    first: int
    last: int


def keep(job: Job, folder: Path) -> None:
    """Write a finished job's snapshots.png, losses.png, losses.csv and manifest.json."""
    status = job.status()
    folder.mkdir(parents=True, exist_ok=True)
    losses = job.losses()
    files.write(folder / "losses.csv", losses.encode())
    files.write(folder / "losses.png", _png(plot(curves(losses, status.spec), spans(losses))))
    last = status.progress.iteration
    taken = _spread([s.iteration for s in status.snapshots if s.iteration < last], STRIP_MAX - 1)
    pictures = {str(iteration): job.snapshot(iteration) for iteration in taken}
    files.write(folder / "snapshots.png", _png(strip({**pictures, str(last): job.result()})))
    files.write(folder / "manifest.json", job.manifest())


def strip(pictures: Mapping[str, bytes]) -> Image.Image:
    """Pictures of one height side by side, each above its caption."""
    thumbnails = [_thumbnail(data) for data in pictures.values()]
    gap, caption = 12, 40
    width = sum(thumbnail.width + gap for thumbnail in thumbnails) + gap
    image = Image.new("RGB", (width, gap + STRIP_HEIGHT + caption), PAPER)
    draw = ImageDraw.Draw(image)
    x = gap
    for text, thumbnail in zip(pictures, thumbnails, strict=True):
        image.paste(thumbnail, (x, gap))
        middle = x + thumbnail.width / 2, gap + STRIP_HEIGHT + caption / 2
        draw.text(middle, text, INK, _font(18), anchor="mm")
        x += thumbnail.width + gap
    return image


def curves(losses: str, spec: Mapping[str, Any]) -> list[Curve]:
    """The total and its parts, of a loss history as CSV; parts that are always 0 are left out.

    Each size of the pyramid has factors of its own, which a line of the history tells; where an
    older one does not, they are the spec's.
    """
    rows = _rows(losses)
    found = []
    for part, color in COLORS.items():
        name = FACTORS.get(part, "")
        given = 1 if spec.get(name) is None else spec[name]
        factors = [float(row.get(name, given)) for row in rows]
        points = [
            (int(row["iteration"]), factor * float(row[part]))
            for row, factor in zip(rows, factors, strict=True)
        ]
        if part == "total" or any(loss > 0 for _, loss in points):
            label = part if factors[-1] == 1 else f"{_factor(factors[-1])} · {part}"
            found.append(Curve(label, color, points))
    return found


def _factor(value: float) -> str:
    """Three digits, and no exponent where it can be read without."""
    return f"{value:.0f}" if 1000 <= value < 1e6 else f"{value:.3g}"


def spans(losses: str) -> list[Span]:
    """The sizes of a loss history as CSV, coarse to fine; none where it does not tell them."""
    sizes: dict[str, list[int]] = {}
    for row in _rows(losses):
        if "level" in row:
            name = f"{row['width']} x {row['height']} px"
            sizes.setdefault(name, []).append(int(row["iteration"]))
    return [Span(name, its[0], its[-1]) for name, its in sizes.items()]


def plot(curves: Sequence[Curve], spans: Sequence[Span] = ()) -> Image.Image:
    """The curves over the iterations, logarithmic, each named where it ends.

    Where there are several sizes a line stands before each but the first, and the curves are
    broken: a loss at one size cannot be compared with that at another.
    """
    positive = [loss for curve in curves for _, loss in curve.points if loss > 0]
    high = max(positive, default=1.0) * 1.2
    low = max(min(positive, default=1.0) / 1.2, high / 10**DECADES_MAX)
    last = max(iteration for curve in curves for iteration, _ in curve.points)
    parts = spans if len(spans) > 1 else [Span("", 0, last)]

    def x(iteration: float) -> float:
        return LEFT + (RIGHT - LEFT) * iteration / max(last, 1)

    rows = _rows_apart([(x(part.first), _width(part.name, 18)) for part in parts])
    top = TOP + (ROW * (1 + max(rows)) if len(parts) > 1 else 0)

    def y(loss: float) -> float:
        return BOTTOM - (BOTTOM - top) * math.log(max(loss, low) / low) / math.log(high / low)

    pen = _Pen()
    pen.text((LEFT, TOP - 62), "Loss", INK, 30, "ls")
    note = "at each iteration, on a logarithmic scale"
    if clipped := [loss for curve in curves for _, loss in curve.points if loss < low]:
        what = f"less than {_short(float(f'{low:.1g}'))}" if any(clipped) else "0"
        note += f"; {what} is drawn at the lower edge"
    pen.text((LEFT, TOP - 30), note, GREY, 19, "ls")
    pen.text(((LEFT + RIGHT) / 2, BOTTOM + 64), "iteration", GREY, 19, "ms")
    for tick in _logarithmic_ticks(low, high):
        pen.line([(LEFT, y(tick)), (RIGHT, y(tick))], GRID, 1)
        pen.text((LEFT - 12, y(tick)), _short(tick), GREY, 18, "rm")
    for tick in _ticks(last):
        pen.line([(x(tick), BOTTOM), (x(tick), BOTTOM + 6)], GREY, 1)
        pen.text((x(tick), BOTTOM + 30), f"{tick}", GREY, 18, "ms")
    pen.line([(LEFT, BOTTOM), (RIGHT, BOTTOM)], GREY, 1)
    for part, row in zip(parts, rows, strict=True):
        edge = x(part.first - 0.5) if part.first else LEFT
        name_at = TOP + 12 + ROW * row
        if part.first:
            pen.line([(edge, name_at - 14), (edge, BOTTOM)], GREY, 1)
        pen.text((edge + 6, name_at), part.name, GREY, 18, "ls")
    for curve in reversed(curves):  # the total lies on top
        for part in parts:
            its = [(x(i), y(loss)) for i, loss in curve.points if part.first <= i <= part.last]
            if len(its) == 1:
                pen.dot(its[0], curve.color, 8)
            else:
                pen.line(its, curve.color, 3)
    ends = [y(curve.points[-1][1]) for curve in curves]
    for curve, height in zip(curves, _apart(ends, 28), strict=True):
        pen.text((RIGHT + 14, height), curve.name, curve.color, 20, "lm")
    return pen.image()


def _rows(losses: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(losses)))


class _Pen:
    """Draws in the plot's own pixels, on a finer canvas."""

    def __init__(self) -> None:
        self._canvas = Image.new("RGB", (FINER * PLOT_WIDTH, FINER * PLOT_HEIGHT), PAPER)
        self._draw = ImageDraw.Draw(self._canvas)

    def line(self, points: Iterable[tuple[float, float]], color: str, width: int) -> None:
        finer = [(FINER * x, FINER * y) for x, y in points]
        self._draw.line(finer, color, FINER * width, joint="curve")

    def dot(self, at: tuple[float, float], color: str, width: int) -> None:
        self._draw.circle((FINER * at[0], FINER * at[1]), FINER * width / 2, color)

    def text(self, at: tuple[float, float], text: str, color: str, size: int, anchor: str) -> None:
        finer = FINER * at[0], FINER * at[1]
        self._draw.text(finer, text, color, _font(FINER * size), anchor=anchor)

    def image(self) -> Image.Image:
        return self._canvas.reduce(FINER)


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    """Round numbers within, at least a few: whole decades if there are enough of them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)))
    ticks: list[float] = []
    for digits in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        ticks = [digit * 10.0**decade for decade in decades for digit in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks


def _ticks(last: int) -> range:
    """Some five round numbers from 0 to the last iteration."""
    rough = max(1, last / 5)
    power = 10 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    return range(0, last + 1, step)


def _apart(heights: Sequence[float], distance: float) -> list[float]:
    """The heights, in their order, moved down as far as it takes for none to touch another."""
    moved = list(heights)
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for upper, lower in pairwise(order):
        moved[lower] = max(moved[lower], moved[upper] + distance)
    return moved


def _rows_apart(texts: Sequence[tuple[float, float]]) -> list[int]:
    """In which row each text, (from where, how wide), does not touch the one before: from 0."""
    rows = [0]
    for (before, width), (here, _) in pairwise(texts):
        rows.append(rows[-1] + 1 if before + width + 12 > here else 0)
    return rows


def _width(text: str, size: int) -> float:
    return _font(size).getlength(text)


def _spread(items: Sequence[int], most: int) -> list[int]:
    """At most so many of the items, at even distances, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(index * (len(items) - 1) / (most - 1))] for index in range(most)]


def _short(value: float) -> str:
    """`200`, `5k`, `0.01`"""
    for power, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:g}{letter}"
    return f"{value:g}"


def _thumbnail(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as picture:
        width = max(1, round(picture.width * STRIP_HEIGHT / picture.height))
        return files.on_white(picture).resize((width, STRIP_HEIGHT), Image.Resampling.LANCZOS)


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
