"""What is let in as a picture, and what is not."""

import re
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from impasto.shared.errors import InvalidImage
from impasto.shared.pictures.codec import FORMATS, MEDIA_TYPES, Facts, decode, inspect
from tests.arrange.paths import CASES
from tests.arrange.pictures import animated, encode, enlarged, noise

MAX_PIXELS = 10_000
ORIENTATION = 0x0112

NOISE = noise(size=(40, 30))


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [(kind, media_type) for kind, media_type in FORMATS.items() if kind != "HEIF"],
)
def test_a_still_picture_is_known_by_its_bytes(kind: str, media_type: str) -> None:
    assert inspect(encode(NOISE, kind), MAX_PIXELS) == Facts(media_type, 40, 30, 8, False, ())


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixel_is_accepted(mode: str) -> None:
    gray = NOISE.convert("L")
    picture = Image.new(mode, gray.size) if mode == "I;16" else NOISE.convert(mode)
    assert inspect(encode(picture, "PNG"), MAX_PIXELS).width == 40


def test_a_cmyk_jpeg_is_accepted() -> None:
    data = encode(NOISE.convert("CMYK"), "JPEG")
    facts = inspect(data, MAX_PIXELS)
    assert (facts.media_type, facts.width, facts.height) == ("image/jpeg", 40, 30)
    assert facts.warnings == ("the file has CMYK colours and no profile: they are estimated",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_the_one_that_is_shown(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture = inspect(encode(NOISE, kind, exif=exif), MAX_PIXELS)
    is_on_its_side = orientation >= 5
    assert (picture.width, picture.height) == ((30, 40) if is_on_its_side else (40, 30))


def test_a_camera_jpeg_with_a_preview_appended_is_one_still_picture() -> None:
    data = animated("MPO")
    assert Image.open(BytesIO(data)).n_frames == 2
    assert inspect(data, MAX_PIXELS) == Facts("image/jpeg", 48, 36, 8, False, ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"\xff\xd8\xff",
        b"<!DOCTYPE html><title>not here</title>",
        b"%PDF-1.7\n",
    ],
    ids=["empty", "zeros", "three bytes", "html", "pdf"],
)
def test_what_is_no_known_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage) as raised:
        inspect(data, MAX_PIXELS)
    (violation,) = raised.value.violations
    assert all(media_type in violation.accepted for media_type in MEDIA_TYPES)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\x0a\xfa\x7f", "a JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000"),
        (b'<?xml version="1.0"?>\n<svg xmlns="...">', "an SVG drawing"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"8BPS\0\x01", "a Photoshop document"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a camera raw file"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"\0\0\x01\0\x01\0", "an icon"),
        (b"<!DOCTYPE html><title>not here</title>", "a web page"),
        (encode(NOISE, "TIFF", tiffinfo={50706: b"\x01\x04\0\0"}), "a camera raw file (DNG)"),
    ],
)
def test_what_people_take_for_a_picture_is_named_with_the_way_out(data: bytes, name: str) -> None:
    with pytest.raises(InvalidImage, match=re.escape(f"this is {name}")) as raised:
        inspect(data, MAX_PIXELS)
    (violation,) = raised.value.violations
    assert violation.accepted.endswith("save it as a PNG, or as a JPEG of high quality")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PNG", r"an animated PNG \(APNG\)"),
        ("GIF", "an animated GIF"),
        ("WEBP", "an animated WebP"),
        ("AVIF", "an AVIF image sequence"),
        ("TIFF", "a TIFF of several pages"),
    ],
)
def test_an_animation_is_refused_by_name(kind: str, name: str) -> None:
    with pytest.raises(InvalidImage, match=f"the picture is {name}"):
        inspect(animated(kind), MAX_PIXELS)


def test_a_photograph_of_an_iphone_is_accepted() -> None:
    data = (CASES / "a.heic").read_bytes()
    assert inspect(data, MAX_PIXELS) == Facts("image/heic", 120, 80, 8, False, ())
    assert decode(data, 120).picture.shape == (80, 120, 3)


WHOLE = [kind for kind in FORMATS if kind not in {"HEIF"}]
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82", "GIF": b"\0;"}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.6, 0.9, 0.98])
def test_a_truncated_picture_is_refused_even_if_its_end_is_made_up(kind: str, share: float) -> None:
    data = encode(NOISE, kind)
    cut = data[: int(len(data) * share)]
    for ended in (cut, cut + ENDS.get(kind, b"")):
        with pytest.raises(InvalidImage):
            inspect(ended, MAX_PIXELS)


@pytest.mark.parametrize("is_progressive", [False, True])
def test_a_jpeg_that_ends_too_early_is_refused(is_progressive: bool) -> None:
    data = encode(NOISE, "JPEG", progressive=is_progressive)
    scans = data.index(b"\xff\xda")
    refused = [
        not is_accepted(data[:end] + b"\xff\xd9") for end in range(scans + 20, len(data) - 40, 7)
    ]
    # Cut right behind one of the scans of a progressive file, the picture is whole, and less sharp.
    assert sum(refused) >= len(refused) * 0.9 if is_progressive else all(refused)


def is_accepted(data: bytes) -> bool:
    try:
        inspect(data, MAX_PIXELS)
    except InvalidImage:
        return False
    return True


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_a_huge_picture_is_refused_by_its_header_alone(kind: str) -> None:
    # Were it decoded it would be called damaged, for its pixels are not there.
    with pytest.raises(InvalidImage, match="too large") as raised:
        inspect(enlarged(kind, 60_000, 60_000), 100_000_000)
    (violation,) = raised.value.violations
    assert violation.value == "60000 x 60000 px"
    assert "100000000 pixels" in violation.accepted


def test_the_limit_is_the_last_size_that_is_accepted() -> None:
    data = encode(NOISE, "PNG")
    assert inspect(data, 40 * 30).width == 40
    with pytest.raises(InvalidImage, match="too large"):
        inspect(data, 40 * 30 - 1)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animated_picture_is_refused(kind: str) -> None:
    with pytest.raises(InvalidImage, match="animated"):
        inspect(animated(kind), MAX_PIXELS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_cut_off_anywhere_is_refused_or_its_first_picture(kind: str) -> None:
    data = animated(kind)
    for end in range(len(data)):
        is_accepted(data[:end])


@pytest.mark.filterwarnings("ignore")  # Pillow may well warn; only what is raised matters here
@settings(max_examples=200, deadline=None)
@given(
    seed=st.sampled_from(
        [encode(NOISE, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF")]
        + [animated(kind) for kind in ("MPO", "GIF", "WEBP", "PNG")]
    ),
    patches=st.lists(st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=4)), max_size=6),
)
def test_damaged_bytes_are_a_picture_or_refused(
    seed: bytes, patches: list[tuple[int, bytes]]
) -> None:
    data = bytearray(seed)
    for position, patch in patches:
        data[position : position + len(patch)] = patch
    is_accepted(bytes(data))
