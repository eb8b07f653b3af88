"""What is let in as a picture, and what is not."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.errors import InvalidImage
from shared.pictures.codec import MEDIA_TYPES, Facts, inspect
from tests.pictures import animated, encode, enlarged, noise

MAX_PIXELS = 10_000
ORIENTATION = 0x0112

NOISE = noise(size=(40, 30))


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/gif")],
)
def test_a_still_picture_is_known_by_its_bytes(kind: str, media_type: str) -> None:
    assert inspect(encode(NOISE, kind), MAX_PIXELS) == Facts(media_type, 40, 30)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixel_is_accepted(mode: str) -> None:
    gray = NOISE.convert("L")
    picture = Image.new(mode, gray.size) if mode == "I;16" else NOISE.convert(mode)
    assert inspect(encode(picture, "PNG"), MAX_PIXELS).width == 40


def test_a_cmyk_jpeg_is_accepted() -> None:
    data = encode(NOISE.convert("CMYK"), "JPEG")
    assert inspect(data, MAX_PIXELS) == Facts("image/jpeg", 40, 30)


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
    assert inspect(data, MAX_PIXELS) == Facts("image/jpeg", 48, 36)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1000,
        b"\xff\xd8\xff",
        b"<!DOCTYPE html><title>not here</title>",
        b"%PDF-1.7\n",
        encode(NOISE, "TIFF"),
        encode(NOISE, "BMP"),
    ],
    ids=["empty", "zeros", "three bytes", "html", "pdf", "tiff", "bmp"],
)
def test_what_is_no_known_picture_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage) as raised:
        inspect(data, MAX_PIXELS)
    (violation,) = raised.value.violations
    assert all(media_type in violation.accepted for media_type in MEDIA_TYPES)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.98])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    data = encode(NOISE, kind)
    with pytest.raises(InvalidImage):
        inspect(data[: int(len(data) * share)], MAX_PIXELS)


def test_decoding_a_jpeg_small_finds_the_same_truncations_as_decoding_it_whole() -> None:
    data = encode(NOISE, "JPEG", progressive=True)
    for end in range(0, len(data) + 1, 7):
        cut = data[:end]
        assert is_accepted(cut) == is_decoded_whole(cut), end


def is_accepted(data: bytes) -> bool:
    try:
        inspect(data, MAX_PIXELS)
    except InvalidImage:
        return False
    return True


def is_decoded_whole(data: bytes) -> bool:
    try:
        Image.open(BytesIO(data)).convert("RGB")
    except OSError:
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
