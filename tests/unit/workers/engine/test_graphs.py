"""How work branches while a step is recorded, without a GPU: with streams that note who waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from workers.engine import graphs
from workers.engine.graphs import STREAMS, Branches, side_by_side

GPU = torch.device("cuda")


class Stream:
    """Stands for one of CUDA's."""

    def __init__(self, _device: int | None = None) -> None:
        self.waited_for: list[Stream] = []

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other)


class Cuda:
    """What of torch.cuda is asked for, while a graph is captured."""

    def __init__(self) -> None:
        self.main = self.current = Stream()
        self.is_capturing = True

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


@pytest.fixture
def cuda() -> Iterator[Cuda]:
    fake = Cuda()
    graphs._streams.cache_clear()
    with mock.patch.multiple(
        torch.cuda,
        is_available=lambda: True,
        is_current_stream_capturing=lambda: fake.is_capturing,
        current_device=lambda: 0,
        current_stream=lambda: fake.current,
        stream=fake.stream,
        Stream=Stream,
    ):
        yield fake
    graphs._streams.cache_clear()


def test_what_is_done_with_each_has_a_stream_that_starts_and_ends_with_the_others(
    cuda: Cuda,
) -> None:
    used = [cuda.current for _ in side_by_side(range(3), GPU)]
    assert len({cuda.main, *used}) == 4
    assert all(stream.waited_for == [cuda.main] for stream in used)
    assert set(cuda.main.waited_for) == set(used)
    assert cuda.current is cuda.main


def test_work_beside_goes_on_until_the_with_is_left(cuda: Cuda) -> None:
    with Branches(GPU) as beside:
        with beside.branch():
            stream = cuda.current
        assert cuda.current is cuda.main
        assert cuda.main.waited_for == []
    assert cuda.main.waited_for == [stream]


def test_a_branch_does_not_branch(cuda: Cuda) -> None:
    """What it frees would be written over by another branch that waits for the main way alone."""
    with Branches(GPU) as beside, beside.branch():
        stream = cuda.current
        assert [cuda.current for _ in side_by_side(range(3), GPU)] == [stream] * 3
        assert stream.waited_for == [cuda.main]


def test_many_branches_take_turns(cuda: Cuda) -> None:
    used = [cuda.current for _ in side_by_side(range(2 * STREAMS), GPU)]
    assert len(set(used)) == STREAMS
    assert len(cuda.main.waited_for) == STREAMS


@pytest.mark.parametrize(("device", "is_capturing"), [("cpu", True), ("cuda", False)])
def test_nothing_branches_unless_a_step_is_recorded(
    cuda: Cuda, device: str, is_capturing: bool
) -> None:
    cuda.is_capturing = is_capturing
    assert [cuda.current for _ in side_by_side(range(3), torch.device(device))] == [cuda.main] * 3
    assert cuda.main.waited_for == []
