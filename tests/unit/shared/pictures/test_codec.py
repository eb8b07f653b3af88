"""Pictures arrive as they are meant to be seen."""

import numpy as np
import pytest
from PIL import Image, ImageCms

from impasto.shared.errors import InvalidImage
from impasto.shared.pictures import codec
from tests.arrange.pictures import encode, noise

SIZE = (48, 36)


def picture_of(data: bytes, long_side: int) -> np.ndarray:
    return codec.decode(data, long_side).picture


def both(data: bytes, long_side: int) -> tuple[np.ndarray, np.ndarray | None]:
    decoded = codec.decode(data, long_side)
    return decoded.picture, decoded.alpha


def flat(mode: str, color: object, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new(mode, size, color)


def test_a_picture_of_the_right_size_arrives_pixel_by_pixel() -> None:
    picture = picture_of(encode(noise(), "PNG"), long_side=48)

    assert np.array_equal(picture, np.asarray(noise()))


@pytest.mark.parametrize(("long_side", "shape"), [(24, (18, 24, 3)), (96, (72, 96, 3))])
def test_a_picture_is_scaled_to_its_long_side(long_side: int, shape: tuple[int, ...]) -> None:
    assert picture_of(encode(noise(), "PNG"), long_side).shape == shape


def test_the_orientation_of_a_photograph_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: it has to be rotated by 90 degrees clockwise to be seen
    turned = noise().transpose(Image.Transpose.ROTATE_90)

    picture = picture_of(encode(turned, "PNG", exif=exif), long_side=48)

    assert np.array_equal(picture, np.asarray(noise()))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    invisible = (0, 0) if mode == "LA" else (200, 30, 30, 0)

    picture = picture_of(encode(flat(mode, invisible), "PNG"), long_side=48)

    assert (picture == 255).all()


def test_a_color_profile_is_applied() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"____").replace(b"bXYZ", b"rXYZ").replace(b"____", b"bXYZ")
    red = flat("RGB", (200, 0, 0))

    plain = picture_of(encode(red, "PNG", icc_profile=profile), 48)
    as_blue = picture_of(encode(red, "PNG", icc_profile=swapped), 48)

    assert np.abs(plain.astype(int) - (200, 0, 0)).max() <= 2
    assert np.abs(as_blue.astype(int) - (0, 0, 200)).max() <= 8


def test_a_broken_color_profile_is_passed_over() -> None:
    data = encode(noise(), "PNG", icc_profile=b"no profile at all")

    assert np.array_equal(picture_of(data, 48), np.asarray(noise()))


def test_sixteen_bits_of_grey_are_kept() -> None:
    levels = np.full((36, 48), 0x80FF, dtype=np.uint16)

    picture = picture_of(encode(Image.fromarray(levels), "PNG"), long_side=48)

    assert picture.dtype == np.uint16
    assert (picture == 0x80FF).all()


def test_palettes_and_grey_become_rgb() -> None:
    for mode in ("P", "L", "1"):
        assert picture_of(encode(noise().convert(mode), "PNG"), 48).shape == (36, 48, 3)


@pytest.mark.parametrize("data", [b"", b"no picture", encode(noise(), "PNG")[:600]])
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match=r"empty|no picture of a known format|damaged"):
        picture_of(data, 48)


# Alpha and masks.

ALPHA = noise(7).getchannel("R")


def transparent(alpha: Image.Image = ALPHA) -> Image.Image:
    picture = noise()
    picture.putalpha(alpha)
    return picture


def test_an_alpha_channel_arrives_beside_the_picture() -> None:
    data = encode(transparent(), "PNG")

    picture, alpha = both(data, 48)

    assert np.array_equal(alpha, np.asarray(ALPHA))
    assert np.array_equal(picture, picture_of(data, 48))


def test_an_alpha_channel_is_turned_and_scaled_with_its_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    half = Image.new("L", SIZE, 0)
    half.paste(255, (0, 0, 48, 18))  # the upper half
    turned = transparent(half).transpose(Image.Transpose.ROTATE_90)

    picture, alpha = both(encode(turned, "PNG", exif=exif), 24)

    assert alpha is not None
    assert alpha.shape == picture.shape[:2] == (18, 24)
    assert (alpha[:7] == 255).all()
    assert (alpha[-7:] == 0).all()


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "RGB"), ("PNG", "L"), ("PNG", "P")])
def test_a_picture_without_an_alpha_channel_has_none(kind: str, mode: str) -> None:
    _, alpha = both(encode(noise().convert(mode), kind), 48)

    assert alpha is None


def test_a_transparent_color_of_a_palette_is_an_alpha_channel() -> None:
    palette = flat("P", 0)
    palette.putpalette([200, 30, 30, 30, 30, 200])
    palette.putpixel((0, 0), 1)

    _, alpha = both(encode(palette, "PNG", transparency=1), 48)

    assert alpha is not None
    assert alpha[0, 0] == 0
    assert alpha.sum() == 255 * (alpha.size - 1)


def test_a_mask_is_stretched_to_the_canvas() -> None:
    mask = flat("L", 0, (30, 30))
    mask.paste(255, (15, 0, 30, 30))  # the right half

    levels = codec.decode_mask(encode(mask, "PNG"), width=20, height=10)

    assert (levels.shape, levels.dtype) == ((10, 20), np.uint8)
    assert (levels[:, :8] == 0).all()
    assert (levels[:, -8:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "RGB", "1", "P"])
def test_a_mask_may_be_any_picture_in_grey(mode: str) -> None:
    grey = ALPHA if mode != "1" else ALPHA.point(lambda level: 255 * (level > 100))
    stored = grey.convert(mode)

    levels = codec.decode_mask(encode(stored, "PNG"), *SIZE)

    assert np.array_equal(levels, np.asarray(grey))


def test_a_style_does_not_apply_where_its_mask_is_transparent() -> None:
    mask = flat("LA", (255, 0))
    mask.paste((255, 255), (0, 0, 10, 36))

    levels = codec.decode_mask(encode(mask, "PNG"), *SIZE)

    assert (levels[:, :10] == 255).all()
    assert (levels[:, 10:] == 0).all()


def test_a_mask_that_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(InvalidImage, match=r"empty|no picture of a known format|damaged"):
        codec.decode_mask(b"no picture", *SIZE)


def test_a_mask_that_lets_its_style_apply_nowhere_is_refused() -> None:
    with pytest.raises(InvalidImage, match="black everywhere"):
        codec.decode_mask(encode(flat("L", 0), "PNG"), *SIZE)
