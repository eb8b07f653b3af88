"""Paint the two sample pictures, so that none has to be borrowed.

skyline.jpg       a content: a city at dusk over water, with a bridge, a boat and the moon
brushstrokes.jpg  a style: oil strokes laid along a swirling flow, from coarse to fine
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Array = NDArray[np.floating]  # a picture is (HEIGHT, WIDTH, 3), 0..255; a plane lacks the last axis
HEIGHT, WIDTH = 1024, 1536  # of the canvas: files have half of it, which smooths every edge
ROWS, COLUMNS = np.ogrid[:HEIGHT, :WIDTH]

# ---- The skyline ---------------------------------------------------------------------------------
HORIZON, TOWN, SUN = 630, 440, 520  # the row of the shore; columns of the centre and the sunset
SKY = [(16, 24, 70), (44, 52, 118), (122, 84, 146), (226, 118, 112), (255, 178, 92)]
CLOUD = [(64, 64, 128), (150, 92, 150), (250, 124, 116), (255, 206, 136)]
LAMPS = [(255, 190, 96), (255, 214, 140), (255, 160, 76), (255, 200, 120), (200, 216, 250)]
STREETS = [(0.6, 38, 260), (0.24, 20, 460), (0.0, 15, 300)]  # haze, buildings, tallest; far first
# A silhouette tells which points are building: x is -1 left to 1 right, y is 0 at the top, 1 below.
SILHOUETTES = [
    lambda x, y: (y > 0.05) | (abs(x + 0.3) < 0.4),  # a slab with a lift house
    lambda x, y: y > 0.09 * (1 + x),  # a slanted roof
    lambda x, y: abs(x) < np.select([y < 0.12, y < 0.2, y < 0.4], [0.04, 0.45, 0.72], 1),  # steps
    lambda x, y: abs(x) < np.where(y < 0.2, 0.03, 0.45 + 0.4 * y),  # a needle
    lambda x, y: x**2 + (1 - y / 0.13).clip(0) ** 2 < 1,  # a dome
    lambda x, y: (y > 0.12) | (x < -0.1) & (y > 0.04) | (abs(x + 0.5) < 0.04),  # two blocks, a mast
]


def paint_skyline(rng: Generator) -> Array:
    picture, lights = sky(rng), np.zeros((HEIGHT, WIDTH, 3))
    for haze, count, tallest in STREETS:
        for x in rng.permutation(np.linspace(0, WIDTH, count) + rng.normal(0, 12, count)):
            limit = tallest * (0.25 + 0.75 * np.exp(-(((x - TOWN) / 380) ** 2)))
            tall = int(limit * rng.uniform(0.6, 1.05))
            building(picture, lights, rng, int(x), tall=tall, haze=haze)
        picture[:] = mix(picture, (240, 150, 116), 0.22 * np.exp(-(((ROWS - HORIZON) / 90) ** 2)))
    picture[HORIZON - 5 : HORIZON] = (30, 26, 44)  # the quay, and its lamps
    lights[(abs(ROWS - HORIZON + 9) < 4) & (COLUMNS % 64 < 7)] = LAMPS[2]
    bridge(picture, lights)
    picture += 0.85 * lights + 0.8 * blur(lights, 6) + 0.9 * blur(lights, 24)
    water(picture, rng)
    boat(picture, 300, 880)
    return picture + 14 * blur(rng.normal(size=(HEIGHT, WIDTH, 1)), 0.8)  # film grain


def sky(rng: Generator) -> Array:
    """The afterglow, clouds lit from below, stars and the moon."""
    down = ROWS / HORIZON
    glow = np.exp(-(((COLUMNS - SUN) / 480) ** 2) - ((1 - down) / 0.5) ** 2)
    picture = ramp(SKY, 4 * down**0.75) + glow[..., None] * (70, 64, 16)
    cloud = np.interp(noise(rng, 80, 520) + 0.08 * np.sin(9 * down), (0.5, 0.66), (0, 1))
    picture = mix(picture, ramp(CLOUD, 3.2 * down), 0.8 * cloud)
    stars = 900 * blur(rng.random(cloud.shape) < 0.0004, 0.8) * (0.8 - down).clip(0) * (1 - cloud)
    moon = np.hypot(COLUMNS - 1170, ROWS - 215)
    seas = np.interp(noise(rng, 60, 60), (0.48, 0.6), (1, 0.78))
    picture += (stars + 90 * np.exp(-moon / 80))[..., None]
    return mix(picture, seas[..., None] * (255, 244, 214), np.interp(moon, (58, 60), (1, 0)))


def building(picture: Array, lights: Array, rng: Generator, x: int, *, tall: int, haze: float):
    """One building around column `x`, wrapped at the edges; a haze of 1 would hide it."""
    half = rng.integers(26, 52)
    area = np.ix_(np.arange(HORIZON - tall, HORIZON), np.arange(x - half, x + half) % WIDTH)
    across, down = np.linspace(-1, 1, 2 * half), np.linspace(0, 1, tall)[:, None]
    inside = SILHOUETTES[rng.integers(len(SILHOUETTES))](across, down)[..., None]
    wall = np.array((22, 26, 54)) * rng.uniform(0.7, 1.3) + rng.normal(0, 5, 3)
    sunny = (across * np.sign(SUN - x)).clip(0) * (1 - 0.6 * down)
    facade = mix(mix(wall, (200, 96, 84), 0.4 * sunny), (232, 130, 118), haze * (0.5 + 0.5 * down))
    picture[area] = np.where(inside, facade, picture[area])
    lights[area] = np.where(inside, (1 - haze) * windows(rng, tall, 2 * half), lights[area])


def windows(rng: Generator, height: int, width: int) -> Array:
    """The lit panes of one facade, black where there is wall."""
    floor, bay = rng.integers(12, 17), rng.integers(10, 15)
    grid = height // floor + 1, width // bay + 1
    awake = rng.random(grid) < rng.beta(0.6, 1.6, (grid[0], 1))  # some floors work late
    lamps = (awake * rng.uniform(0.4, 1, grid))[..., None] * rng.choice(LAMPS, grid)
    glass = (np.arange(height) % floor > 5)[:, None] & (np.arange(width) % bay > 4)
    return lamps.repeat(floor, 0).repeat(bay, 1)[:height, :width] * glass[..., None]


def bridge(picture: Array, lights: Array):
    """A suspension bridge from the town to the right edge, lamps along its deck."""
    top, deck, left, right = HORIZON - 310, HORIZON - 60, 940, 1400
    span = abs(COLUMNS - (left + right) / 2) / ((right - left) / 2)  # 1 at the pylons
    hang = np.where(span < 1, span**2, (1.9 - 0.9 * span).clip(0))  # a parabola, then straight
    cable = deck - 12 + (top - deck + 12) * hang
    pylon = np.minimum(abs(COLUMNS - left), abs(COLUMNS - right))
    steel = (abs(ROWS - cable) < 4) | (abs(ROWS - deck) < 7)
    steel |= (COLUMNS % 24 < 2) & (cable < ROWS) & (deck > ROWS)
    steel |= (pylon < 20) & (top < ROWS) & ((ROWS - top) % 76 < 10) & (deck > ROWS)
    steel |= (abs(pylon - 18) < 6) & (top - 8 < ROWS) & (HORIZON > ROWS)
    steel &= left - 270 < COLUMNS
    lamps = (left - 270 < COLUMNS) & (COLUMNS % 48 < 7) & (abs(ROWS - deck + 14) < 4)
    picture[:] = mix(picture, ramp([(168, 62, 50), (74, 32, 48)], (ROWS - top) / 310), steel)
    lights[steel], lights[lamps] = 0, LAMPS[1]


def water(picture: Array, rng: Generator):
    """Below the horizon, what is above it, broken by ripples that shrink with distance."""
    rows = np.arange(HEIGHT - HORIZON)[:, None]
    near = rows / rows[-1]
    shrunk = (HEIGHT - 1) * np.log1p(rows / 16) / np.log1p(rows[-1] / 16)
    ripple = noise(rng, 22, 200)[shrunk.astype(int), np.arange(WIDTH)] - 0.5
    y = HORIZON - 1 - 1.15 * rows + ripple * (30 + 280 * near)
    x = np.arange(WIDTH) + ripple * (10 + 60 * near)
    mirror = picture[y.clip(0, HORIZON - 1).astype(int), x.clip(0, WIDTH - 1).astype(int)]
    depth = ramp([(90, 62, 104), (10, 22, 58)], near)
    picture[HORIZON:] = mix(mirror, depth, (0.15 + 0.4 * near + 0.6 * ripple).clip(0, 1))


def boat(picture: Array, x: int, y: int):
    """A small sailing boat, folded at its keel into the water."""
    mirrored = y + 14 < ROWS
    up = np.where(mirrored, 1.7 * (ROWS - y - 14) - 14, y - ROWS)
    side = COLUMNS - x + np.where(mirrored, 5 * np.sin(ROWS / 4), 0)
    sails = (side < -3) & (side > -0.46 * (176 - up)) | (side > 3) & (side < 0.36 * (152 - up))
    hull = (abs(up) < 14) & (abs(side + 4) < 66 + up)
    cloth = ramp([(232, 164, 136), (255, 238, 212)], up / 170)
    picture[:] = mix(picture, cloth, (1 - 0.6 * mirrored) * (sails & (up > 18)))
    picture[:] = mix(picture, (44, 16, 30), (1 - 0.6 * mirrored) * hull)


# ---- The brush strokes ---------------------------------------------------------------------------
COOL = [(9, 9, 52), (22, 42, 120), (26, 82, 176), (44, 138, 190), (126, 196, 196), (236, 236, 208)]
WARM = [(92, 22, 34), (178, 44, 28), (224, 94, 26), (244, 156, 32), (250, 208, 82), (255, 242, 196)]
SUNS = [(470, 400, 260), (1260, 190, 130), (720, 900, 140)]  # warm whirls: column, row, radius
EDDIES = [(1130, 640, 240), (130, 850, 150), (860, 130, 110)]  # cool whirls, turning against them
LAYERS = [(480, 72, 420), (1200, 40, 300), (2000, 24, 210), (1500, 13, 130)]  # count, width, length
STEP = 0.7  # pixels between the samples of a stroke; above 1 / sqrt(2) it would have holes


def paint_brushstrokes(rng: Generator) -> Array:
    stream, warmth = whirls(rng)
    paint = np.full((HEIGHT, WIDTH, 3), (28, 40, 96), np.float32)  # the toned ground
    relief = np.zeros((HEIGHT, WIDTH), np.float32)
    for count, width, length in LAYERS:
        for path in follow(rng, stream, count, length):
            load = dip(rng, stream, warmth, path)
            stroke(paint, relief, rng, path, width=width * rng.uniform(0.5, 1.3), load=load)
    return lit(paint, relief)


def whirls(rng: Generator) -> tuple[Array, Array]:
    """The stream, along whose contours the strokes run, and how warm each place is."""
    stream = 0.9 * ROWS / HEIGHT + 0.45 * noise(rng, 480, 480, octaves=2)
    warmth = np.zeros_like(stream)
    for places, turn, warm in ((SUNS, 1, 1), (EDDIES, -1, 0.3)):
        for x, y, radius in places:
            bump = np.exp(-np.hypot(COLUMNS - x, ROWS - y) / radius)
            stream += turn * radius / 240 * bump
            warmth += warm * bump
    return stream, warmth


def follow(rng: Generator, stream: Array, count: int, length: float) -> list[Array]:
    """Paths along the stream from random places, each (samples, 2): x, y."""
    down, right = np.gradient(stream)
    flow = np.stack((-down, right), -1) / np.hypot(down, right)[..., None]
    points = [rng.uniform((-99, -99), (WIDTH + 99, HEIGHT + 99), (count, 2))]
    for _ in range(int(length / STEP)):
        x, y = points[-1].astype(int).T
        points.append(points[-1] + STEP * flow[y.clip(0, HEIGHT - 1), x.clip(0, WIDTH - 1)])
    paths = np.stack(points, 1).astype(np.float32)
    return [path[: int(len(path) * rng.uniform(0.4, 1))] for path in paths]


def dip(rng: Generator, stream: Array, warmth: Array, path: Array) -> Array:
    """The two colours on the brush, (2, 3), from the palette of the place that the path crosses."""
    x, y = path[len(path) // 2].astype(int).clip(0, (WIDTH - 1, HEIGHT - 1))
    palette = WARM if warmth[y, x] > rng.normal(0.5, 0.1) else COOL
    tone = 2.4 + 2 * np.sin(15 * stream[y, x]) + rng.normal(0, 0.7)
    return ramp(palette, tone + rng.normal(0, 0.5, 2)) + rng.normal(0, 9, 3)


def stroke(paint: Array, relief: Array, rng: Generator, path: Array, *, width: float, load: Array):
    """Drag the brush along a path: its hairs leave furrows and run dry one by one."""
    across = np.linspace(-1, 1, int(width / STEP), dtype=np.float32)
    along = np.linspace(0, 1, len(path), dtype=np.float32)[:, None]
    tufts = rng.random(int(width / 5) + 3, np.float32)
    hairs = np.interp(across, np.linspace(-1, 1, tufts.size), tufts).astype(np.float32)
    normal = np.gradient(path, STEP, axis=0)[:, ::-1] * np.float32((-1, 1))
    offset = across * (1 - 0.5 * along**4) * width / 2
    x, y = (path.T[..., None] + normal.T[..., None] * offset).astype(int)
    tip = width / 2 / len(path) / STEP * (1 - np.sqrt(1 - across**2))  # round, as the brush is
    wet = (along > tip + 0.06 * hairs) & (along < 0.65 + 0.4 * hairs)
    wet &= (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    x, y = x[wet], y[wet]
    color = mix(*load, (across + 1) / 2) * (0.68 + 0.6 * hairs)[:, None]
    paint[y, x] = np.broadcast_to(color, (*wet.shape, 3))[wet]
    body = (0.3 + 1.2 * hairs + 0.6 * across**8) * (1 - 0.4 * along) * width**0.5
    relief[y, x] = 0.4 * relief[y, x] + body[wet]


def lit(paint: Array, relief: Array) -> Array:
    """The paint under a lamp at the upper left: slopes towards it shine, slopes away are dark."""
    slope = sum(np.gradient(blur(relief, 1.2)))[..., None] / 2  # down and to the right
    return paint * (1 + 0.5 * np.tanh(slope)) + 50 * (slope - 0.5).clip(0, 1.5)


# ---- The paint box -------------------------------------------------------------------------------
def noise(rng: Generator, height: float, width: float, octaves: int = 5) -> Array:
    """Clouds around 0.5, their largest lumps of this height and width."""
    total = np.zeros((HEIGHT, WIDTH))
    for scale in 2 ** np.arange(octaves):
        cells = int(HEIGHT / height * scale) + 2, int(WIDTH / width * scale) + 2
        lumps = Image.fromarray(rng.random(cells, np.float32))
        total += np.asarray(lumps.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)) / scale
    return total / (2 - 2 ** (1 - octaves))


def blur(image: Array, sigma: float) -> Array:
    """A Gaussian blur by Fourier transform; it wraps at the edges."""
    waves = np.fft.fftfreq(HEIGHT)[:, None] ** 2 + np.fft.rfftfreq(WIDTH) ** 2
    kept = np.exp(-2 * (np.pi * sigma) ** 2 * waves)
    return np.fft.irfft2((np.fft.rfft2(image, axes=(0, 1)).T * kept.T).T, axes=(0, 1))


def ramp(colors: ArrayLike, position: ArrayLike) -> Array:
    """Colours between the neighbours in a list: 0 gives the first, 0.5 half of the second."""
    return np.stack([np.interp(position, range(len(colors)), c) for c in np.transpose(colors)], -1)


def mix(under: ArrayLike, over: ArrayLike, share: ArrayLike) -> Array:
    """`over` laid on `under`, covering this share of each pixel."""
    return under + (np.asarray(over) - under) * np.asarray(share)[..., None]


def main():
    parser = argparse.ArgumentParser(description="Paint the two sample pictures.")
    parser.add_argument("--seed", type=int, default=8, help="another seed, another town")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to fill")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, paint in (("skyline.jpg", paint_skyline), ("brushstrokes.jpg", paint_brushstrokes)):
        canvas = paint(np.random.default_rng(options.seed)).clip(0, 255).astype(np.uint8)
        Image.fromarray(canvas).reduce(2).save(options.out / name, quality=86)
        print(options.out / name)


if __name__ == "__main__":
    main()
