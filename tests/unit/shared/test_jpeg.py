"""What a JPEG's markers tell of its cost."""

import pytest

from shared.errors import InvalidImage
from shared.pictures import codec, jpeg
from tests.pictures import animated, encode, noise, rescanned

SOF2, SOS, EOI = b"\xff\xc2", b"\xff\xda\x00\x02", b"\xff\xd9"


def header(width: int, height: int, *factors: int) -> bytes:
    """A progressive picture up to its first scan; a component for each pair of factors."""
    components = b"".join(bytes([i, factor, 0]) for i, factor in enumerate(factors))
    size = height.to_bytes(2) + width.to_bytes(2)
    length = (8 + len(components)).to_bytes(2)
    return b"\xff\xd8" + SOF2 + length + b"\x08" + size + bytes([len(factors)]) + components


def test_a_hundred_scans_are_accepted_and_one_more_is_not() -> None:
    assert codec.inspect(rescanned(100), 10**6).width == 48
    jpeg.check(rescanned(100))

    with pytest.raises(InvalidImage, match="too many scans") as raised:
        jpeg.check(rescanned(101))
    (violation,) = raised.value.violations
    assert violation.accepted == "a JPEG of at most 100 scans"


def test_only_the_scans_of_the_picture_itself_count() -> None:
    preview = rescanned(99)
    exif = b"Exif\0\0" + preview  # as a thumbnail, in a segment of its own
    jpeg.check(encode(noise(), "JPEG", exif=exif[:60_000], progressive=True))
    jpeg.check(animated("MPO") + preview * 2)  # appended


@pytest.mark.parametrize(
    ("factors", "mib"),
    [((0x22, 0x11, 0x11), 286), ((0x11,), 190), ((0x11, 0x11, 0x11), 572)],
    ids=["4:2:0", "grey", "4:4:4"],
)
def test_several_scans_take_the_coefficients_of_the_whole_picture(
    factors: tuple[int, ...], mib: int
) -> None:
    data = header(10_000, 10_000, *factors)
    jpeg.check(data + SOS + EOI)  # one scan is decoded row by row
    if mib <= jpeg.COEFFICIENT_BYTES_MAX >> 20:
        jpeg.check(data + SOS + SOS + EOI)
        return
    with pytest.raises(InvalidImage, match="too much memory") as raised:
        jpeg.check(data + SOS + SOS + EOI)
    assert f"{mib} MiB" in raised.value.violations[0].value


def test_a_header_that_is_cut_off_says_nothing() -> None:
    whole = header(10_000, 10_000, 0x11, 0x11, 0x11)
    for end in range(len(whole)):
        jpeg.check(whole[:end])


def test_other_formats_are_not_looked_at() -> None:
    jpeg.check(b"\x89PNG" + SOS * 200)
