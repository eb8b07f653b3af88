"""Pictures side by side: what is measured is looked at, too."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from bench.judge.distances import Pixels
from bench.judge.judge import eight_bits

CAPTION, GAP = 20, 4  # px


def sheet(
    rows: Sequence[Sequence[Pixels]], captions: Sequence[str], tile: int = 320
) -> Image.Image:
    """A row for each pair, all of its pictures stretched to the last one's proportions.

    tile: a picture's width, in px.
    """
    thumbnails = []
    for row in rows:
        height, width = row[-1].shape[:2]
        size = tile, round(tile * height / width)
        thumbnails.append([_resized(pixels, size) for pixels in row])
    whole = len(captions) * (tile + GAP) - GAP
    high = CAPTION + sum(row[0].height + GAP for row in thumbnails)
    canvas = Image.new("RGB", (whole, high), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for i, caption in enumerate(captions):
        draw.text((i * (tile + GAP) + 2, 2), caption, "black", font)
    top = CAPTION
    for row in thumbnails:
        for i, thumbnail in enumerate(row):
            canvas.paste(thumbnail, (i * (tile + GAP), top))
        top += row[0].height + GAP
    return canvas


def _resized(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(eight_bits(pixels)).resize(size, Image.Resampling.LANCZOS)
