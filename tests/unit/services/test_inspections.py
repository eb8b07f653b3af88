"""Each picture's bytes are looked at once, however often they come."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from impasto.services.uploads import Inspections, Upload
from impasto.shared.errors import Busy, InvalidImage
from impasto.shared.pictures.codec import Facts
from impasto.shared.pictures.pool import Decoders
from tests.arrange.pictures import encode, paint
from tests.arrange.timing import wait_until

BLACK = encode(Image.new("L", (10, 10)), "PNG")


class Counting(Decoders):
    """Counts what it is asked for; nothing is answered before `may_answer`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, bytes]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: Exception | None = None

    def inspect(self, data: bytes, max_pixels: int) -> Facts:
        self._count("picture", data)
        return super().inspect(data, max_pixels)

    def inspect_mask(self, data: bytes, max_pixels: int) -> Facts:
        self._count("mask", data)
        return super().inspect_mask(data, max_pixels)

    def _count(self, what: str, data: bytes) -> None:
        self.asked.append((what, data))
        assert self.may_answer.wait(60)
        if self.error:
            raise self.error


@pytest.fixture
def decoders() -> Iterator[Counting]:
    with Counting() as decoders:
        yield decoders


@pytest.fixture
def inspections(decoders: Counting) -> Inspections:
    return Inspections(decoders, max_pixels=10**6)


def test_the_same_bytes_at_once_are_decoded_once(
    decoders: Counting, inspections: Inspections
) -> None:
    decoders.may_answer.clear()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(inspections.picture, Upload(paint())) for _ in range(8)]
        wait_until(lambda: decoders.asked)
        decoders.may_answer.set()
        assert {answer.result() for answer in answers} == {Facts("image/png", 48, 36, 8, False, ())}
    assert len(decoders.asked) == 1


def test_what_was_refused_is_refused_again_without_a_look_and_by_its_own_field(
    decoders: Counting, inspections: Inspections
) -> None:
    for field in ("content", "styles.0.asset"):
        with pytest.raises(InvalidImage, match=f"^{field}: ") as raised:
            inspections.picture(Upload(b"no picture"), field=field)
        assert [violation.field for violation in raised.value.violations] == [field]
    assert len(decoders.asked) == 1


def test_that_a_server_was_busy_says_nothing_of_the_picture(
    decoders: Counting, inspections: Inspections
) -> None:
    decoders.error = Busy()
    with pytest.raises(Busy):
        inspections.picture(Upload(paint()))
    decoders.error = None
    assert inspections.picture(Upload(paint())).width == 48


def test_a_picture_is_not_known_as_a_mask(decoders: Counting, inspections: Inspections) -> None:
    black = Upload(BLACK)
    assert inspections.picture(black).width == 10
    for _ in range(2):
        with pytest.raises(InvalidImage, match="black everywhere"):
            inspections.mask(black.id, lambda: black.data, field="styles.0.mask")
    assert [what for what, _ in decoders.asked] == ["picture", "mask"]


def test_only_so_much_is_remembered(decoders: Counting, inspections: Inspections) -> None:
    first, last = paint(0), paint(1)
    inspections.picture(Upload(first))
    for number in range(1000):
        with pytest.raises(InvalidImage):
            inspections.picture(Upload(b"%d" % number))
    inspections.picture(Upload(last))
    inspections.picture(Upload(last))
    inspections.picture(Upload(first))
    assert [data for _, data in decoders.asked if len(data) > 9] == [first, last, first]
