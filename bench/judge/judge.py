"""The verdict on a picture, given its photograph and its painting."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage import data, feature
from torch import Tensor

from bench import vgg
from bench.judge.alexnet import load_alexnet
from bench.judge.artefacts import Artefacts, find_artefacts
from bench.judge.distances import (
    Pixels,
    edge_distance,
    feature_distance,
    gram_distance,
    histogram_distance,
    lab_distance,
    self_similarity_distance,
)
from impasto.shared.pictures import codec

VGG_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")  # no recipe compares these
SIMILAR = 3  # AlexNet's relu4: which place is like which
EDGE_SIGMA = 1 / 128  # of the long side: strokes are finer, eyes are not
PIXELS_MAX = 2**28  # of a picture that is judged
FACE_CANVAS, FACE_NEIGHBOURS = 256, 12  # px; with 4, bridges and cats have faces, too
FACE_SIGMA = 1 / 24  # of a face's side

Parts = dict[str, float]


@dataclass(frozen=True)
class Verdict:
    """Each but face and artefacts is a share: 0 as one input, 1 as far from it as the other is.

    palette, texture: 0 as the painting, 1 as far from it as the photograph is.
    content: 0 as the photograph, 1 as far from it as the painting is, shrunk to the same canvas.
    face: how otherwise the edges of its faces run, 0..1, by chance 0.5; None without a face.
    parts: what they are the means of.
    """

    palette: float
    texture: float
    content: float
    face: float | None
    artefacts: Artefacts
    parts: Parts

    @property
    def score(self) -> float:
        """The sum, of which less is better: of a photograph 2, of a painting 1."""
        return self.palette + self.texture + self.content + self.artefacts.score


class Subject:
    """A picture with what was found out about it, so that nothing is found out twice."""

    def __init__(self, pixels: Pixels, trunks: "Trunks") -> None:
        self.pixels = pixels
        self._trunks = trunks

    @cached_property
    def alexnet(self) -> Sequence[Tensor]:
        return self._trunks.alexnet.features(to_image(self.pixels))

    @cached_property
    def vgg(self) -> Sequence[Tensor]:
        return list(self._trunks.vgg.features(to_image(self.pixels), VGG_LAYERS).values())


class Trunks:
    """The two networks."""

    def __init__(self) -> None:
        self.alexnet = load_alexnet()
        self.vgg = vgg.load()


class Judge:
    """Of all pictures of one photograph and one painting.

    photograph, painting: (H, W, 3), 0..1; the painting of the size at which its strokes are wanted.
    What is compared by place, content and artefacts, must be of the photograph's size.
    """

    def __init__(self, photograph: Pixels, painting: Pixels, trunks: Trunks | None = None) -> None:
        self._trunks = trunks or Trunks()
        self._photograph = Subject(photograph, self._trunks)
        self._painting = Subject(painting, self._trunks)
        stretched = resized(painting, photograph.shape[:2])
        self._faces = find_faces(photograph)
        self._palette_whole = self._palette(self._photograph)
        self._texture_whole = self._texture(self._photograph)
        self._content_whole = self._content(Subject(stretched, self._trunks))

    def verdict(self, picture: Pixels) -> Verdict:
        subject = self.subject(picture)
        palette, texture = self.palette(subject), self.texture(subject)
        content = self.content(subject)
        return Verdict(
            palette=mean(palette),
            texture=mean(texture),
            content=mean(content),
            face=self.face(picture),
            artefacts=self.artefacts(picture),
            parts=palette | texture | content,
        )

    def subject(self, picture: Pixels) -> Subject:
        return Subject(picture, self._trunks)

    def palette(self, subject: Subject) -> Parts:
        return _shares(self._palette(subject), self._palette_whole)

    def texture(self, subject: Subject) -> Parts:
        return _shares(self._texture(subject), self._texture_whole)

    def content(self, subject: Subject) -> Parts:
        return _shares(self._content(subject), self._content_whole)

    def artefacts(self, picture: Pixels) -> Artefacts:
        return find_artefacts(picture, self._photograph.pixels, self._painting.pixels)

    def face(self, picture: Pixels) -> float | None:
        found = []
        for top, left, side in self._faces:
            face = np.s_[top : top + side, left : left + side]
            sigma = FACE_SIGMA * side
            found.append(edge_distance(picture[face], self._photograph.pixels[face], sigma))
        return max(found, default=None)

    def _palette(self, subject: Subject) -> Parts:
        ours, theirs = subject.pixels, self._painting.pixels
        return {
            "palette.lab": lab_distance(ours, theirs),
            "palette.histogram": histogram_distance(ours, theirs),
        }

    def _texture(self, subject: Subject) -> Parts:
        painting, found = self._painting, {}
        for trunk, ours, theirs in (
            ("alexnet", subject.alexnet, painting.alexnet),
            ("vgg", subject.vgg, painting.vgg),
        ):
            found[f"texture.{trunk}_wasserstein"] = feature_distance(ours, theirs)
            found[f"texture.{trunk}_gram"] = gram_distance(ours, theirs)
        return found

    def _content(self, subject: Subject) -> Parts:
        photograph = self._photograph
        sigma = EDGE_SIGMA * max(photograph.pixels.shape)
        return {
            "content.lpips": self._trunks.alexnet.lpips(subject.alexnet, photograph.alexnet),
            "content.self_similarity": self_similarity_distance(
                subject.alexnet[SIMILAR], photograph.alexnet[SIMILAR]
            ),
            "content.edges": edge_distance(subject.pixels, photograph.pixels, sigma),
        }


def find_faces(photograph: Pixels) -> list[tuple[int, int, int]]:
    """Top, left and side of each, in px."""
    scale = FACE_CANVAS / max(photograph.shape)
    height, width = (round(side * scale) for side in photograph.shape[:2])
    found = feature.Cascade(data.lbp_frontal_face_cascade_filename()).detect_multi_scale(
        img=eight_bits(resized(photograph, (height, width))),
        scale_factor=1.1,
        step_ratio=1,
        min_size=(24, 24),
        max_size=(min(height, width),) * 2,
        min_neighbor_number=FACE_NEIGHBOURS,
    )
    return [tuple(round(one[key] / scale) for key in ("r", "c", "width")) for one in found]


def read(file: Path, long_side: int = 0) -> Pixels:
    """A picture as it is meant to be seen, brought to a long side in px, or of its own size."""
    data = file.read_bytes()
    if not long_side:
        facts = codec.inspect(data, max_pixels=PIXELS_MAX)
        long_side = max(facts.width, facts.height)
    picture = codec.decode(data, long_side).picture
    return picture / np.iinfo(picture.dtype).max


def resized(pixels: Pixels, shape: tuple[int, int]) -> Pixels:
    image = Image.fromarray(eight_bits(pixels))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.LANCZOS), dtype=np.float64) / 255


def eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    return np.rint(255 * pixels).astype(np.uint8)


def to_image(pixels: Pixels) -> Tensor:
    """(1, 3, H, W), RGB, 0..255, as networks take it."""
    image = torch.tensor(np.ascontiguousarray(pixels), dtype=torch.float32)
    return 255 * image.permute(2, 0, 1)[None]


def _shares(distances: Parts, whole: Parts) -> Parts:
    return {name: value / max(whole[name], 1e-9) for name, value in distances.items()}


def mean(parts: Parts) -> float:
    return float(np.mean(list(parts.values())))
