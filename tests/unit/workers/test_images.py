"""Pictures arrive as they are meant to be seen, and leave as they are."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from shared.errors import InvalidImage
from tests.pictures import encode, noise
from workers import images

SIZE = (48, 36)


def flat(mode: str, color: object, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.new(mode, size, color)


def test_a_picture_of_the_right_size_arrives_pixel_by_pixel() -> None:
    picture = images.decode(encode(noise(), "PNG"), long_side=48)

    assert np.array_equal(picture, np.asarray(noise()))


@pytest.mark.parametrize(("long_side", "shape"), [(24, (18, 24, 3)), (96, (72, 96, 3))])
def test_a_picture_is_scaled_to_its_long_side(long_side: int, shape: tuple[int, ...]) -> None:
    assert images.decode(encode(noise(), "PNG"), long_side).shape == shape


def test_the_orientation_of_a_photograph_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: it has to be rotated by 90 degrees clockwise to be seen
    turned = noise().transpose(Image.Transpose.ROTATE_90)

    picture = images.decode(encode(turned, "PNG", exif=exif), long_side=48)

    assert np.array_equal(picture, np.asarray(noise()))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    invisible = (0, 0) if mode == "LA" else (200, 30, 30, 0)

    picture = images.decode(encode(flat(mode, invisible), "PNG"), long_side=48)

    assert (picture == 255).all()


def test_a_color_profile_is_applied() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"____").replace(b"bXYZ", b"rXYZ").replace(b"____", b"bXYZ")
    red = flat("RGB", (200, 0, 0))

    plain = images.decode(encode(red, "PNG", icc_profile=profile), 48)
    as_blue = images.decode(encode(red, "PNG", icc_profile=swapped), 48)

    assert np.abs(plain.astype(int) - (200, 0, 0)).max() <= 2
    assert np.abs(as_blue.astype(int) - (0, 0, 200)).max() <= 8


def test_a_broken_color_profile_is_passed_over() -> None:
    data = encode(noise(), "PNG", icc_profile=b"no profile at all")

    assert np.array_equal(images.decode(data, 48), np.asarray(noise()))


def test_sixteen_bits_of_grey_become_eight() -> None:
    levels = np.full((36, 48), 0x80FF, dtype=np.uint16)

    picture = images.decode(encode(Image.fromarray(levels), "PNG"), long_side=48)

    assert (picture == 0x80).all()


def test_palettes_and_grey_become_rgb() -> None:
    for mode in ("P", "L", "1"):
        assert images.decode(encode(noise().convert(mode), "PNG"), 48).shape == (36, 48, 3)


@pytest.mark.parametrize("data", [b"", b"no picture", encode(noise(), "PNG")[:600]])
def test_what_cannot_be_decoded_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidImage, match="cannot be decoded"):
        images.decode(data, 48)


def test_a_result_is_written_without_loss_and_always_the_same() -> None:
    picture = np.asarray(noise())

    png = images.encode_png(picture)

    assert png == images.encode_png(picture)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), picture)


def test_the_colors_of_one_picture_go_with_the_light_of_another() -> None:
    light = np.asarray(noise().convert("L").convert("RGB"))
    colors = np.asarray(flat("RGB", (180, 90, 60)))

    mixed = Image.fromarray(images.with_colors_of(light, colors)).convert("YCbCr")

    y, blue, red = (np.asarray(channel).astype(int) for channel in mixed.split())
    _, wanted_blue, wanted_red = Image.fromarray(colors).convert("YCbCr").getpixel((0, 0))
    inside = (y > 90) & (y < 160)  # elsewhere RGB cannot hold that colour in that light
    assert np.abs(y - light[..., 0])[inside].max() <= 2
    assert np.abs(blue - wanted_blue)[inside].max() <= 2
    assert np.abs(red - wanted_red)[inside].max() <= 2
