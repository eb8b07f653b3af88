"""Pictures of every kind are read as the standards say: size, orientation, colours, transparency.

A picture has four fields of one colour each, so that every orientation looks different. What is
expected is computed here, in float64, from the standards' formulas.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from impasto.shared.errors import InvalidImage
from impasto.shared.pictures import codec
from tests.arrange import pictures
from tests.arrange.icc import (
    ADOBE,
    BT709,
    P3,
    Space,
    decoded_srgb,
    encoded_srgb,
    gray_profile,
    tiff16,
)
from tests.arrange.paths import CASES
from tests.arrange.pictures import chunk

WIDTH, HEIGHT = 32, 24
ORIENTATION = 0x0112
# Upper left, upper right, lower left, lower right; 0..255, inside the gamut of sRGB and not.
COLORS = np.array([(200, 60, 30), (40, 180, 90), (30, 60, 220), (128, 128, 128)])
GREYS = np.array([(230,) * 3, (128,) * 3, (40,) * 3, (90,) * 3])
ALPHAS = np.array([255, 255, 128, 0])

SPACES = {
    "srgb": Space(BT709),
    "p3": Space(P3),
    "adobe": Space(ADOBE, 563 / 256),
    "linear": Space(BT709, 1.0),
}
Fields = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One kind of file, and what it means."""

    kind: str
    mode: str
    profile: str
    orientation: int
    is_transparent: bool
    data: bytes
    expected: Fields  # (4, 3), 0..255, of the fields as they are stored
    tolerance: int

    def __str__(self) -> str:
        return f"{self.kind} {self.mode} {self.profile} {self.orientation} {self.is_transparent}"


def fields(values: NDArray[Any]) -> NDArray[Any]:
    """(4, ...) to (H, W, ...)"""
    upper = np.repeat(values[[0, 1]][None], HEIGHT // 2, axis=0)
    lower = np.repeat(values[[2, 3]][None], HEIGHT // 2, axis=0)
    return np.repeat(np.concatenate([upper, lower]), WIDTH // 2, axis=1)


def meant(colors: NDArray[Any], profile: str, *, is_transparent: bool) -> Fields:
    """What is seen, 0..255, of colours 0..255 in a space: on white where they are transparent."""
    if profile == "grey 1.8":
        shown = encoded_srgb((colors / 255) ** 1.8)
    elif profile == "none":
        shown = colors / 255
    else:
        shown = np.array([SPACES[profile].to_srgb(color / 255) for color in colors])
    if is_transparent:
        share = ALPHAS[:, None] / 255
        shown = shown * share + (1 - share)
    return shown * 255


def stored(picture: Image.Image, kind: str, orientation: int, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = BytesIO()
    if orientation > 1 and kind != "TIFF":
        options["exif"] = exif
    if orientation > 1 and kind == "TIFF":
        options["tiffinfo"] = {ORIENTATION: orientation}
    picture.save(file, kind, **options)
    return file.getvalue()


def png(levels: NDArray[Any], color_type: int, *more: bytes, orientation: int = 1) -> bytes:
    """A PNG by hand, of 8 or 16 bits a channel."""
    height, width = levels.shape[:2]
    bits = levels.itemsize * 8
    rows = levels.astype(f">u{levels.itemsize}").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, ORIENTATION, 3, 1, orientation, 0)
    header = width, height, bits, color_type, 0
    return pictures.png(header, zlib.compress(raw), *more, chunk(b"eXIf", exif))


def samples(colors: NDArray[Any], bits: int, *, has_alpha: bool) -> NDArray[Any]:
    """A picture's, of 8 or 16 bits a channel, of colours 0..255; with its alpha, if it has one."""
    scale, kind = (1, np.uint8) if bits == 8 else (257, np.uint16)
    planes = [colors, ALPHAS[:, None]] if has_alpha else [colors]
    return fields((np.concatenate(planes, axis=1) * scale).astype(kind))


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"test\0\0" + zlib.compress(profile))


def chrm(space: Space) -> bytes:
    flat = [0.3127, 0.3290, *(value for x_y in space.primaries for value in x_y)]
    return chunk(b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in flat)))


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma)))


# How a PNG may say what its colours are: the chunks, and the space that they mean.
PNG_COLORS: dict[str, tuple[list[bytes], str]] = {
    "nothing": ([], "none"),
    **{f"iCCP {name}": ([iccp(space.profile())], name) for name, space in SPACES.items()},
    "sRGB over gAMA": ([chunk(b"sRGB", b"\0"), gama(1.0)], "none"),
    "gAMA": ([gama(1.0)], "linear"),
    "gAMA and cHRM": ([gama(563 / 256), chrm(SPACES["adobe"])], "adobe"),
    "cICP": ([chunk(b"cICP", bytes([12, 13, 0, 1]))], "p3"),
    "cICP over iCCP": (
        [chunk(b"cICP", bytes([12, 13, 0, 1])), iccp(SPACES["adobe"].profile())],
        "p3",
    ),
}


def cells_of_png() -> Iterator[Cell]:
    for orientation, (told, (more, profile)) in product(range(1, 9), PNG_COLORS.items()):
        for bits, has_alpha in product((8, 16), (False, True)):
            levels = samples(COLORS, bits, has_alpha=has_alpha)
            data = png(levels, 6 if has_alpha else 2, *more, orientation=orientation)
            expected = meant(COLORS, profile, is_transparent=has_alpha)
            mode = f"{'RGBA' if has_alpha else 'RGB'}{bits}"
            yield Cell("PNG", mode, told, orientation, has_alpha, data, expected, 2)


def cells_of_grey_png() -> Iterator[Cell]:
    grey = GREYS[:, :1]
    for orientation, profile in product(range(1, 9), ("none", "grey 1.8")):
        more = [iccp(gray_profile(1.8))] if profile != "none" else []
        for bits, has_alpha in product((8, 16), (False, True)):
            levels = samples(grey, bits, has_alpha=has_alpha)
            data = png(levels, 4 if has_alpha else 0, *more, orientation=orientation)
            expected = meant(GREYS, profile, is_transparent=has_alpha)
            mode = f"{'LA' if has_alpha else 'L'}{bits}"
            yield Cell("PNG", mode, profile, orientation, has_alpha, data, expected, 2)


def cells_of_color_keys() -> Iterator[Cell]:
    """One colour of a PNG is transparent: its last field's."""
    for bits, is_grey in product((8, 16), (False, True)):
        scale, kind = (1, np.uint8) if bits == 8 else (257, np.uint16)
        colors = GREYS if is_grey else COLORS
        levels = ((colors[:, :1] if is_grey else colors) * scale).astype(kind)
        key = chunk(b"tRNS", struct.pack(f">{levels.shape[1]}H", *levels[3].tolist()))
        expected = colors.astype(float)
        expected[3] = 255
        data = png(fields(levels), 0 if is_grey else 2, key)
        yield Cell(
            "PNG", f"{'L' if is_grey else 'RGB'}{bits} tRNS", "none", 1, True, data, expected, 2
        )


def cells_of_pillow() -> Iterator[Cell]:
    """Formats that Pillow writes, lossless or nearly so."""
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
        "TIFF": {"compression": "tiff_lzw"},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "PNG": {},
    }
    modes = {
        "JPEG": ["RGB"],
        "WEBP": ["RGB", "RGBA"],
        "TIFF": ["RGB", "RGBA"],
        "AVIF": ["RGB", "RGBA"],
        "PNG": ["P", "P tRNS"],
    }
    for kind, orientation, profile in product(options, range(1, 9), ("none", "p3", "adobe")):
        for mode in modes[kind]:
            is_transparent = mode in {"RGBA", "P tRNS"}
            told = {"icc_profile": SPACES[profile].profile()} if profile != "none" else {}
            picture = Image.fromarray(fields(COLORS.astype(np.uint8)))
            if mode == "RGBA":
                picture.putalpha(Image.fromarray(fields(ALPHAS.astype(np.uint8))))
            if mode.startswith("P"):
                indices = fields(np.arange(4, dtype=np.uint8))
                picture = Image.fromarray(indices, "P")
                picture.putpalette(COLORS.astype(np.uint8).tobytes())
            if mode == "P tRNS":
                told["transparency"] = bytes(ALPHAS.tolist())
            data = stored(picture, kind, orientation, **options[kind], **told)
            colors = COLORS
            if kind == "AVIF":  # what its encoder made of them
                colors = seen_fields(np.asarray(Image.open(BytesIO(data)).convert("RGB")))
            expected = meant(colors, profile, is_transparent=is_transparent)
            tolerance = 4 if kind == "JPEG" else 2
            yield Cell(kind, mode, profile, orientation, is_transparent, data, expected, tolerance)


def cells_of_grey() -> Iterator[Cell]:
    for kind, orientation, profile in product(
        ("JPEG", "TIFF"), range(1, 9), ("none", "grey 1.8", "linear")
    ):
        told = {}
        if profile == "grey 1.8":
            told["icc_profile"] = gray_profile(1.8)
        if profile == "linear":  # a profile of RGB, on whose neutral axis they lie
            told["icc_profile"] = SPACES["linear"].profile()
        picture = Image.fromarray(fields(GREYS[:, 0].astype(np.uint8)))
        quality = {"quality": 100} if kind == "JPEG" else {}
        data = stored(picture, kind, orientation, **quality, **told)
        expected = meant(GREYS, profile, is_transparent=False)
        yield Cell(kind, "L", profile, orientation, False, data, expected, 4 if quality else 2)


def cells_of_deep_tiff() -> Iterator[Cell]:
    for orientation, profile in product(range(1, 9), ("none", "p3", "adobe", "linear")):
        for has_alpha in (False, True):
            planes = [COLORS, ALPHAS[:, None]] if has_alpha else [COLORS]
            levels = fields((np.concatenate(planes, axis=1) * 257).astype(np.uint16))
            icc = SPACES[profile].profile() if profile != "none" else b""
            data = tiff16(levels, profile=icc, orientation=orientation)
            expected = meant(COLORS, profile, is_transparent=has_alpha)
            mode = "RGBA16" if has_alpha else "RGB16"
            yield Cell("TIFF", mode, profile, orientation, has_alpha, data, expected, 2)
    for orientation, is_inverted in product(range(1, 9), (False, True)):
        grey = (GREYS[:, :1] * 257).astype(np.uint16)
        levels = fields(65535 - grey if is_inverted else grey)
        data = tiff16(levels, orientation=orientation, is_inverted=is_inverted)
        mode = "L16 inverted" if is_inverted else "L16"
        yield Cell("TIFF", mode, "none", orientation, False, data, GREYS.astype(float), 2)


def cells_of_plain_files() -> Iterator[Cell]:
    """Formats that know neither profiles nor orientations."""
    rgb = Image.fromarray(fields(COLORS.astype(np.uint8)))
    indices = Image.fromarray(fields(np.arange(4, dtype=np.uint8)), "P")
    indices.putpalette(COLORS.astype(np.uint8).tobytes())
    plain = COLORS.astype(float)
    yield Cell("BMP", "RGB", "none", 1, False, stored(rgb, "BMP", 1), plain, 2)
    yield Cell("BMP", "P", "none", 1, False, stored(indices, "BMP", 1), plain, 2)
    yield Cell("GIF", "P", "none", 1, False, stored(indices, "GIF", 1), plain, 2)
    cut_out = plain.copy()
    cut_out[3] = 255
    data = stored(indices, "GIF", 1, transparency=3)
    yield Cell("GIF", "P", "none", 1, True, data, cut_out, 2)
    black_white = np.array([(255,) * 3, (0,) * 3, (0,) * 3, (255,) * 3], float)
    bits = Image.fromarray(fields(black_white[:, 0].astype(np.uint8))).convert("1")
    for kind, orientation in product(("PNG", "TIFF"), range(1, 9)):
        data = stored(bits, kind, orientation)
        yield Cell(kind, "1", "none", orientation, False, data, black_white, 2)


def cells_of_exif() -> Iterator[Cell]:
    """A camera's Adobe RGB, told by EXIF alone, as DCF has it."""
    for orientation, told in product(range(1, 9), ({0xA001: 2}, {0xA001: 0xFFFF})):
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        exif.get_ifd(0x8769).update(told)
        if told[0xA001] == 0xFFFF:
            exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
        file = BytesIO()
        picture = Image.fromarray(fields(COLORS.astype(np.uint8)))
        picture.save(file, "JPEG", quality=100, subsampling=0, exif=exif)
        expected = meant(COLORS, "adobe", is_transparent=False)
        name = f"EXIF {told[0xA001]}"
        yield Cell("JPEG", "RGB", name, orientation, False, file.getvalue(), expected, 4)


MAKERS: list[Callable[[], Iterator[Cell]]] = [
    cells_of_png,
    cells_of_grey_png,
    cells_of_color_keys,
    cells_of_pillow,
    cells_of_grey,
    cells_of_deep_tiff,
    cells_of_plain_files,
    cells_of_exif,
]
# Where each orientation shows the stored fields 0 1 / 2 3. Source: TIFF 6.0, tag 274.
SHOWN = {
    1: (0, 1, 2, 3),
    2: (1, 0, 3, 2),
    3: (3, 2, 1, 0),
    4: (2, 3, 0, 1),
    5: (0, 2, 1, 3),
    6: (2, 0, 3, 1),
    7: (3, 1, 2, 0),
    8: (1, 3, 0, 2),
}


@pytest.mark.parametrize("make", MAKERS)
def test_every_kind_of_file_is_read_as_the_standards_say(
    make: Callable[[], Iterator[Cell]],
) -> None:
    wrong = []
    for cell in make():
        size = (HEIGHT, WIDTH) if cell.orientation >= 5 else (WIDTH, HEIGHT)
        facts = codec.inspect(cell.data, 10_000)
        decoded = codec.decode(cell.data, max(WIDTH, HEIGHT))
        is_deep = "16" in cell.mode
        seen = seen_fields(decoded.picture) / (257 if is_deep else 1)
        worst = np.abs(seen - cell.expected[list(SHOWN[cell.orientation])]).max()
        facts_told = (facts.width, facts.height, facts.bits, facts.has_alpha, facts.warnings)
        expected = (*size, 16 if is_deep else 8, cell.is_transparent, ())
        if decoded.picture.shape != (*size[::-1], 3) or facts_told != expected:
            wrong.append(f"{cell}: {decoded.picture.shape}, {facts_told}")
        if (decoded.picture.dtype == np.uint16) != is_deep or worst > cell.tolerance:
            wrong.append(f"{cell}: {worst:.1f} grey levels off, {decoded.picture.dtype}")
    assert not wrong, f"{len(wrong)} cells:\n" + "\n".join(wrong[:40])


def seen_fields(picture: NDArray[Any]) -> Fields:
    """The mean colour of each field, (4, 3), away from its edges."""
    height, width, _ = picture.shape
    halves = [(slice(3, side // 2 - 3), slice(side // 2 + 3, side - 3)) for side in (height, width)]
    return np.array(
        [picture[rows, columns].mean(axis=(0, 1)) for rows, columns in product(*halves)]
    )


def test_the_table_has_its_cells() -> None:
    cells = [str(cell) for make in MAKERS for cell in make()]
    assert len(cells) == len(set(cells)) >= 600


def test_the_formulas_of_the_table_are_the_standards() -> None:
    # White is white in each space; a linear half is sRGB's 188.
    for space in SPACES.values():
        assert np.allclose(space.to_srgb(np.ones(3)), 1, atol=1e-6)
    assert round(float(encoded_srgb(np.array(0.5))) * 255) == 188
    assert abs(float(decoded_srgb(np.array(188 / 255))) - 0.5) < 0.01


@pytest.mark.parametrize("name", ["p3_pal.png", "swaprg_pal.png"])
def test_a_palette_has_the_colors_of_its_twin_in_rgb(name: str) -> None:
    data = (CASES / name).read_bytes()
    with Image.open(BytesIO(data)) as image:
        assert image.mode == "P"
        profile = image.info["icc_profile"]
        twin = BytesIO()
        image.convert("RGB").save(twin, "PNG", icc_profile=profile)

    shown, expected = codec.decode(data, 120).picture, codec.decode(twin.getvalue(), 120).picture

    assert np.array_equal(shown, expected)
    with Image.open(BytesIO(data)) as image:
        assert np.abs(shown.astype(int) - np.asarray(image.convert("RGB"))).max() > 20


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            stored(Image.new("RGB", (16, 16)), "PNG", 1, icc_profile=b"no profile"),
            "the file's colour profile is damaged",
        ),
        (
            stored(Image.new("RGB", (16, 16)), "PNG", 1, icc_profile=gray_profile(1.8)),
            "the file's colour profile is for GRAY, its samples are RGB",
        ),
        (
            png(np.zeros((16, 16, 3), np.uint8), 2, chunk(b"cICP", bytes([9, 16, 0, 1]))),
            "the file's brightness is HDR (PQ)",
        ),
        (
            png(np.zeros((16, 16, 3), np.uint8), 2, chunk(b"cICP", bytes([77, 13, 0, 1]))),
            "the file's colours are of code points 77 and 13",
        ),
        (
            png(np.zeros((16, 16, 3), np.uint8), 2, chunk(b"cHRM", bytes(32))),
            "the file tells of primaries or of a gamma that cannot be",
        ),
        (
            stored(Image.new("CMYK", (16, 16)), "JPEG", 1),
            "the file has CMYK colours and no profile",
        ),
    ],
    ids=["damaged", "other samples", "hdr", "unknown", "impossible", "cmyk"],
)
def test_what_is_not_honored_is_said(data: bytes, told: str) -> None:
    (warning,) = codec.inspect(data, 10_000).warnings
    assert warning.startswith(told)
    codec.decode(data, 16)  # and is no reason to refuse the picture


def test_the_colors_of_a_heic_are_those_of_its_profile() -> None:
    data = (CASES / "a.heic").read_bytes()
    assert codec.inspect(data, 10_000).warnings == ()


MASK = np.zeros((24, 32), np.uint8)
MASK[:, :16] = 255


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 30, 30)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_painted_in_one_color_on_transparency_is_what_is_painted(
    color: tuple[int, int, int], mode: str
) -> None:
    painted = Image.new("RGB", (32, 24), color)
    painted.putalpha(Image.fromarray(MASK))
    data = stored(painted.convert(mode), "PNG", 1)

    assert codec.inspect_mask(data, 10_000).has_alpha
    assert np.array_equal(codec.decode_mask(data, 32, 24), MASK)


def test_a_grey_mask_on_transparency_is_black_where_it_is_transparent() -> None:
    grey = np.repeat(np.linspace(0, 255, 32).astype(np.uint8)[None], 24, axis=0)
    picture = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(MASK)])

    mask = codec.decode_mask(stored(picture, "PNG", 1), 32, 24)

    assert np.array_equal(mask[:, :16], grey[:, :16])
    assert not mask[:, 16:].any()


@pytest.mark.parametrize(
    "picture",
    [Image.new("L", (32, 24)), Image.new("RGB", (32, 24))],
    ids=["black", "black in RGB"],
)
def test_a_mask_that_is_black_everywhere_is_refused_at_the_door(picture: Image.Image) -> None:
    with pytest.raises(InvalidImage, match="black everywhere") as raised:
        codec.inspect_mask(stored(picture, "PNG", 1), 10_000)
    (violation,) = raised.value.violations
    assert violation.accepted.startswith("white")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("inspect", [codec.inspect, codec.inspect_mask])
def test_a_picture_of_which_nothing_is_seen_is_refused(
    inspect: Callable[[bytes, int], codec.Facts], mode: str
) -> None:
    with pytest.raises(InvalidImage, match="transparent everywhere"):
        inspect(stored(Image.new(mode, (32, 24)), "PNG", 1), 10_000)
    deep = png(np.zeros((24, 32, len(mode)), np.uint16), {2: 4, 4: 6}[len(mode)])
    with pytest.raises(InvalidImage, match="transparent everywhere"):
        inspect(deep, 10_000)


@pytest.mark.parametrize("size", [(64, 48), (8, 6), (1, 1)])
def test_a_mask_that_was_let_in_applies_somewhere_at_every_size(size: tuple[int, int]) -> None:
    dot = np.zeros((400, 600), np.uint8)
    dot[371, 17] = 1
    data = stored(Image.fromarray(dot), "PNG", 1)
    codec.inspect_mask(data, 10**6)
    assert codec.decode_mask(data, *size).any()


def test_sixteen_bits_are_kept_where_a_picture_is_made_smaller() -> None:
    ramp = np.linspace(20_000, 22_000, 400).round().astype(np.uint16)
    levels = np.repeat(np.repeat(ramp[None], 40, axis=0)[..., None], 3, axis=2)

    picture = codec.decode(png(levels, 2), 200).picture

    assert len(np.unique(picture)) > 150  # 8 of them in 8 bits
    expected = levels.reshape(20, 2, 200, 2, 3).mean(axis=(1, 3))
    assert np.abs(picture[4:-4, 4:-4] - expected[4:-4, 4:-4]).max() <= 16
