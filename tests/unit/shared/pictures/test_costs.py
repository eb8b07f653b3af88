"""What the structure of a file tells of its cost."""

import pytest

from impasto.shared.errors import InvalidImage
from impasto.shared.pictures import codec, costs
from tests.arrange.pictures import animated, chunk, encode, noise, paint, rescanned
from tests.fuzz.bombs import BOMBS
from tests.fuzz.mutations import seeds

SOF2, SOS, EOI = b"\xff\xc2", b"\xff\xda\x00\x02", b"\xff\xd9"


def header(width: int, height: int, *factors: int) -> bytes:
    """A progressive picture up to its first scan; a component for each pair of factors."""
    components = b"".join(bytes([i, factor, 0]) for i, factor in enumerate(factors))
    size = height.to_bytes(2) + width.to_bytes(2)
    length = (8 + len(components)).to_bytes(2)
    return b"\xff\xd8" + SOF2 + length + b"\x08" + size + bytes([len(factors)]) + components


def test_a_hundred_scans_are_accepted_and_one_more_is_not() -> None:
    assert codec.inspect(rescanned(100), 10**6).width == 48
    costs.check(rescanned(100))

    with pytest.raises(InvalidImage, match="too many scans") as raised:
        costs.check(rescanned(101))
    (violation,) = raised.value.violations
    assert violation.accepted == "at most 100 scans; save it anew"


def test_only_the_scans_of_the_picture_itself_count() -> None:
    preview = rescanned(99)
    exif = b"Exif\0\0" + preview  # as a thumbnail, in a segment of its own
    costs.check(encode(noise(), "JPEG", exif=exif[:60_000], progressive=True))
    costs.check(animated("MPO") + preview * 2)  # appended


@pytest.mark.parametrize(
    ("factors", "mib"),
    [((0x22, 0x11, 0x11), 286), ((0x11,), 190), ((0x11, 0x11, 0x11), 572)],
    ids=["4:2:0", "grey", "4:4:4"],
)
def test_several_scans_take_the_coefficients_of_the_whole_picture(
    factors: tuple[int, ...], mib: int
) -> None:
    data = header(10_000, 10_000, *factors)
    costs.check(data + SOS + EOI)  # one scan is decoded row by row
    if mib <= 320:
        costs.check(data + SOS + SOS + EOI)
        return
    with pytest.raises(InvalidImage, match="too many bytes of coefficients"):
        costs.check(data + SOS + SOS + EOI)


def test_a_header_that_is_cut_off_says_nothing() -> None:
    whole = header(10_000, 10_000, 0x11, 0x11, 0x11)
    for end in range(len(whole)):
        costs.check(whole[:end])


def test_the_scans_of_a_huge_picture_are_fewer() -> None:
    data = header(10_000, 10_000, 0x11)
    costs.check(data + SOS * 20 + EOI)
    with pytest.raises(InvalidImage, match="too many pixels in all its scans"):
        costs.check(data + SOS * 21 + EOI)


@pytest.mark.parametrize(
    ("padding", "what"),
    [
        (b"\xff\xe5\x00\x02" * 10_000, "segments"),
        (b"\xff" * 70_000, "bytes between two segments"),
    ],
    ids=["segments", "fill bytes"],
)
def test_a_jpeg_of_nothing_but_structure_is_refused(padding: bytes, what: str) -> None:
    data = paint(kind="JPEG")
    costs.check(data[:2] + padding[: len(padding) // 2] + data[2:])
    with pytest.raises(InvalidImage, match=f"too many {what}"):
        costs.check(data[:2] + padding + data[2:])


@pytest.mark.parametrize(
    ("kind", "most", "what"),
    [(b"tEXt", 1000, "chunks beside its pixels"), (b"IDAT", 100_000, "chunks of pixels")],
)
def test_a_png_of_nothing_but_chunks_is_refused(kind: bytes, most: int, what: str) -> None:
    data = paint()
    end = data.index(b"IDAT") - 4
    costs.check(data[:end] + chunk(kind, b"") * (most - 10) + data[end:])
    with pytest.raises(InvalidImage, match=f"too many {what}"):
        costs.check(data[:end] + chunk(kind, b"") * most + data[end:])


def test_a_tiff_of_nothing_but_folders_is_refused() -> None:
    make = BOMBS["tiff, 100,000 folders"].func
    costs.check(make(1000, 0))
    with pytest.raises(InvalidImage, match="too many folders"):
        costs.check(make(1001, 0))


def test_a_tiff_whose_folder_leads_to_itself_has_one() -> None:
    costs.check(BOMBS["tiff, a folder that leads to itself"](0))


@pytest.mark.parametrize("seed", range(len(seeds())))
def test_what_is_ordinary_is_not_too_much(seed: int) -> None:
    costs.check(seeds()[seed])
