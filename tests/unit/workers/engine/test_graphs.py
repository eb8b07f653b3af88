"""How work branches while a step is recorded, without a GPU: with streams that note who waits."""

from collections.abc import Iterator

import pytest
import torch

from impasto.workers.engine.device.graphs import STREAMS, StreamFork, parallel_streams
from tests.unit.workers.engine.streams import Cuda, capturing

GPU = torch.device("cuda")


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    with capturing() as cuda:
        yield cuda


def test_what_is_done_with_each_has_a_stream_that_starts_and_ends_with_the_others(
    cuda: Cuda,
) -> None:
    used = [cuda.current for _ in parallel_streams(range(3), GPU)]
    assert len({cuda.main, *used}) == 4
    assert all(stream.waited_for == [cuda.main] for stream in used)
    assert set(cuda.main.waited_for) == set(used)
    assert cuda.current is cuda.main


def test_work_beside_goes_on_until_the_with_is_left(cuda: Cuda) -> None:
    with StreamFork(GPU) as beside:
        with beside.branch():
            stream = cuda.current
        assert cuda.current is cuda.main
        assert cuda.main.waited_for == []
    assert cuda.main.waited_for == [stream]


def test_a_branch_does_not_branch(cuda: Cuda) -> None:
    """What it frees would be written over by another branch that waits for the main way alone."""
    with StreamFork(GPU) as beside, beside.branch():
        stream = cuda.current
        assert [cuda.current for _ in parallel_streams(range(3), GPU)] == [stream] * 3
        assert stream.waited_for == [cuda.main]


def test_many_branches_take_turns(cuda: Cuda) -> None:
    used = [cuda.current for _ in parallel_streams(range(2 * STREAMS), GPU)]
    assert len(set(used)) == STREAMS
    assert len(cuda.main.waited_for) == STREAMS


@pytest.mark.parametrize(("device", "is_capturing"), [("cpu", True), ("cuda", False)])
def test_nothing_branches_unless_a_step_is_recorded(
    cuda: Cuda, device: str, is_capturing: bool
) -> None:
    cuda.is_capturing = is_capturing
    assert [cuda.current for _ in parallel_streams(range(3), torch.device(device))] == [
        cuda.main
    ] * 3
    assert cuda.main.waited_for == []
