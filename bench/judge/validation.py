"""Comparisons whose answer is known, which the judge must get right before it is believed.

Photographs, halves of paintings, both spoilt on purpose in one respect, and a peer's pictures.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from skimage import color, exposure, filters

from bench.judge.distances import Pixels
from bench.judge.judge import Judge, eight_bits, mean, resized
from bench.peers.pastiche import Pastiche

PASTICHE_STEPS = 60


@dataclass(frozen=True)
class Comparison:
    """Two pictures of which one is known to be better in a measure.

    better, worse: (H, W, 3), 0..1.
    """

    name: str
    measure: str
    better: Pixels
    worse: Pixels

    def values(self, judge: Judge) -> tuple[float, float]:
        """What the judge says of the better one and of the worse; the first should be less."""
        return value_of(judge, self.better, self.measure), value_of(judge, self.worse, self.measure)


def value_of(judge: Judge, picture: Pixels, measure: str) -> float:
    """measure: `palette`, `texture`, `content`, `face`, `score` or `artefacts.` and one of them."""
    group, _, name = measure.partition(".")
    if group in ("palette", "texture", "content"):
        return mean(getattr(judge, group)(judge.subject(picture)))
    if group == "artefacts":
        return float(getattr(judge.artefacts(picture), name))
    if group == "face":
        return judge.face(picture) or 0.0
    return judge.verdict(picture).score


def comparisons(photograph: Pixels, painting: Pixels, other: Pixels) -> Iterator[Comparison]:
    """Of one pair. other: another photograph, of any size."""
    random = np.random.default_rng(0)
    other = resized(other, photograph.shape[:2])
    matched = exposure.match_histograms(photograph, painting, channel_axis=2)
    half_matched = (photograph + matched) / 2
    one_half = _one_half(painting)
    patches = _shuffled(painting, 48, random)

    yield Comparison("half of the painting", "palette", one_half, photograph)
    yield Comparison("the painting's colours", "palette", matched, photograph)
    yield Comparison("half way to its colours", "palette", half_matched, photograph)
    yield Comparison("all the way to its colours", "palette", matched, half_matched)
    yield Comparison("red for blue", "palette", matched, matched[..., ::-1])
    yield Comparison("turned hues", "palette", painting, _turned(painting))

    yield Comparison("half of the painting", "texture", one_half, photograph)
    yield Comparison("the painting in patches", "texture", patches, photograph)
    yield Comparison("its pixels shuffled", "texture", patches, _shuffled(painting, 1, random))
    yield Comparison("blurred strokes", "texture", painting, _blurred(painting, 2))
    yield Comparison("noise for strokes", "texture", patches, _noisy(patches, 0.15, random))
    yield Comparison("no strokes, its colours", "texture", patches, matched)

    yield Comparison("shifted by 2 px", "content", np.roll(photograph, 2, axis=1), other)
    yield Comparison("brighter", "content", photograph**0.7, other)
    yield Comparison("the painting's colours", "content", matched, other)
    yield Comparison("bent little", "content", _bent(photograph, 0.5), _bent(photograph, 2.5))
    yield Comparison("in patches", "content", matched, _shuffled(photograph, 32, random))
    yield Comparison("another picture", "content", photograph, (photograph + other) / 2)

    for name, spoil in SPOILT.items():
        yield Comparison(name, name, photograph, spoil(photograph))
    for period in (2, 4, 8, 16):
        gridded = _gridded(photograph, period)
        yield Comparison(f"grid of {period}", "artefacts.peak", photograph, gridded)
    yield Comparison("spoilt in all", "score", matched, _spoilt_in_all(matched))


def peer_comparisons(photograph: Pixels, painting: Pixels) -> Iterator[Comparison]:
    """With what pastiche makes of the pair: nearer to each input than the other input is."""
    picture = _by_pastiche(photograph, painting)
    stretched = resized(painting, photograph.shape[:2])
    yield Comparison("pastiche's picture", "palette", picture, photograph)
    yield Comparison("pastiche's picture", "texture", picture, photograph)
    yield Comparison("pastiche's picture", "content", picture, stretched)
    spoilt = _noisy(picture, 0.1, np.random.default_rng(4))
    yield Comparison("pastiche's, with noise", "score", picture, spoilt)


def face_comparisons(photograph: Pixels) -> Iterator[Comparison]:
    """Of a portrait."""
    yield Comparison("bent little", "face", _bent(photograph, 0.3), _bent(photograph, 2.0))
    yield Comparison("brighter", "face", photograph**0.7, _bent(photograph, 1.5))
    flipped = photograph[::-1]
    yield Comparison("upside down", "face", _blurred(photograph, 1), flipped)


def _blurred(pixels: Pixels, sigma: float) -> Pixels:
    return filters.gaussian(pixels, sigma, channel_axis=2)


def _one_half(painting: Pixels) -> Pixels:
    return painting[:, : painting.shape[1] // 2]


def _by_pastiche(photograph: Pixels, painting: Pixels) -> Pixels:
    pictures = (torch.tensor(eight_bits(each)) for each in (photograph, painting))
    with torch.enable_grad():
        peer = Pastiche(*pictures)
        for _ in range(PASTICHE_STEPS):
            peer.step()
    return peer.image()[0].permute(1, 2, 0).double().numpy() / 255


def _turned(pixels: Pixels) -> Pixels:
    hsv = color.rgb2hsv(pixels)
    hsv[..., 0] = (hsv[..., 0] + 0.4) % 1
    return color.hsv2rgb(hsv)


def _shuffled(pixels: Pixels, side: int, random: np.random.Generator) -> Pixels:
    """In squares; what is left over at the right and below is cut off."""
    height, width = (length // side for length in pixels.shape[:2])
    squares = pixels[: height * side, : width * side].reshape(height, side, width, side, 3)
    squares = squares.swapaxes(1, 2).reshape(-1, side, side, 3)
    squares = squares[random.permutation(len(squares))].reshape(height, width, side, side, 3)
    shuffled = squares.swapaxes(1, 2).reshape(height * side, width * side, 3)
    found = pixels.copy()
    found[: height * side, : width * side] = shuffled
    return found


def _noisy(pixels: Pixels, std: float, random: np.random.Generator) -> Pixels:
    return np.clip(pixels + std * random.standard_normal(pixels.shape), 0, 1)


def _bent(pixels: Pixels, pixels_off: float) -> Pixels:
    """Waves of a random field. pixels_off: root of the mean square, in 1/256 of the long side."""
    random = np.random.default_rng(1)
    height, width = pixels.shape[:2]
    scale = max(height, width) / 256
    fields = []
    for _ in range(2):
        field = ndimage.gaussian_filter(random.standard_normal((height, width)), 6 * scale)
        fields.append(field / field.std() * pixels_off * scale)
    down, across = np.mgrid[:height, :width].astype(float)
    places = [down + fields[0], across + fields[1]]
    planes = [
        ndimage.map_coordinates(pixels[..., channel], places, order=1, mode="reflect")
        for channel in range(3)
    ]
    return np.stack(planes, axis=2)


def _gridded(pixels: Pixels, period: int) -> Pixels:
    height, width = pixels.shape[:2]
    down, across = np.mgrid[:height, :width]
    wave = np.cos(2 * np.pi * down / period) + np.cos(2 * np.pi * across / period)
    return np.clip(pixels + 0.02 * wave[..., None], 0, 1)


def _colour_noise(pixels: Pixels) -> Pixels:
    random = np.random.default_rng(2)
    lab = color.rgb2lab(pixels)
    lab[..., 1:] += 8 * random.standard_normal(lab[..., 1:].shape)
    return np.clip(color.lab2rgb(lab), 0, 1)


def _framed(pixels: Pixels) -> Pixels:
    framed = pixels.copy()
    noisy = _noisy(pixels, 0.15, np.random.default_rng(3))
    for edge in (np.s_[:8], np.s_[-8:], np.s_[:, :8], np.s_[:, -8:]):
        framed[edge] = noisy[edge]
    return framed


def _saturated(pixels: Pixels) -> Pixels:
    return np.clip((pixels - 0.5) * 3 + 0.5, 0, 1)


def _spoilt_in_all(pixels: Pixels) -> Pixels:
    return _framed(_gridded(_colour_noise(_saturated(pixels)), 4))


SPOILT = {
    "artefacts.chroma_grain": _colour_noise,
    "artefacts.flat_chroma_grain": _colour_noise,
    "artefacts.border": _framed,
    "artefacts.saturated": _saturated,
}
