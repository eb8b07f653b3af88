"""Short slices of `make fuzz-pictures`; its bounds of time are for a machine that is not busy."""

import zlib
from collections.abc import Iterator

import pytest

from impasto.shared.pictures.pool import Decoders, Limits
from tests.fuzz import runs
from tests.fuzz.bombs import BOMBS, zeros
from tests.fuzz.runs import Verdict, Watch

SIDE = 500
# By the processor's time, not by the clock's: a busy machine is not to turn it red.
PATIENT = Limits(memory_bytes=480 * 2**20, cpu_seconds=5, seconds=120)


@pytest.fixture(scope="module")
def patient() -> Iterator[Decoders]:
    with Decoders(inspection=PATIENT) as decoders:
        yield decoders


def test_mutated_pictures_are_refused_or_can_be_decoded(patient: Decoders) -> None:
    verdict = runs.decode(patient, patient, 500, seed=0)
    assert not verdict.faults, verdict
    assert verdict.counts["accepted"] > 20, verdict  # not all of them die in their headers


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_or_can_be_decoded_in_little_memory(patient: Decoders, name: str) -> None:
    data = BOMBS[name](SIDE)
    with Watch(lambda: patient.pids) as watch:
        end, fault = runs.inspected(patient, data)
    assert not fault
    assert watch.memory_bytes <= runs.MEMORY_BYTES_MAX
    if end == runs.ACCEPTED:
        assert not runs.undecoded(patient, data)


def test_a_bound_that_is_broken_is_seen() -> None:
    verdict = Verdict(slowest_seconds=11, beside_seconds=1.5, memory_bytes=2**30)
    runs.check_bounds(verdict)
    assert len(verdict.faults) == 3


@pytest.mark.parametrize("count", [0, 1, 2**20 - 1, 2**20, 3 * 2**20 + 5])
def test_zeros_by_the_mebibyte_are_zeros(count: int) -> None:
    assert zlib.decompress(zeros(count)) == bytes(count)
