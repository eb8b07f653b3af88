"""Steps recorded on a GPU and replayed: their hundreds of kernels are launched as two.

Launched one by one from Python they take longer than they run: a step of 512 px took 9.4 ms on an
H200, of which its kernels took 2.2 ms.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import count
from typing import Self, TypeVar
from weakref import ref

import torch
from torch import Tensor

from .arena import Arena

KEPT = 8  # batches; the one that was stepped longest ago is dropped
WARM = 2  # steps before one is recorded: by then all that stays has its place
STREAMS = 8  # that branches take in turns; each keeps scratch memory of its own

T = TypeVar("T")
Step = Callable[[], Iterator[Tensor]]


class Graphs:
    """The steps of one device.

    A step is a generator. It reads and writes tensors that stay where they are, gives what the host
    waits for, and then goes on with what nobody waits for.
    Belongs to the thread that owns the device, and so takes no lock.
    """

    def __init__(self, device: torch.device, arena: Arena) -> None:
        self._device = device
        self._arena = arena
        self._known: OrderedDict[tuple[int, ...], _CapturedBatch] = OrderedDict()
        self._memory: _Memory | None = None  # that all of them use in turns
        self._latest: _Recorded | None = None  # may still be running

    def run(self, step: Step, parties: Sequence[object]) -> Tensor:
        """One step on a GPU; what it gave, on the host, until the next one.

        parties: what decides which tensors the step uses. It is recorded when the same ones come
        after `WARM` steps, and replayed from then on.
        """
        with torch.cuda.device(self._device):
            recorded = self._recorded(step, self._captured(parties))
            if recorded is None:
                return self.run_eagerly(step)
            if recorded is not self._latest:  # which would be billed to this one
                torch.cuda.synchronize()
                self._latest = recorded
            return recorded.replay()

    def run_eagerly(self, step: Step) -> Tensor:
        """One step that is not recorded, on any device; what it gave, on the host."""
        self._latest = None
        given, *_ = step()
        return given.cpu()

    def clear(self) -> None:
        """Gives everything back."""
        for key in list(self._known):
            self._forget(key)
        self._memory = None

    def _captured(self, parties: Sequence[object]) -> "_CapturedBatch":
        """What is known of it; forgotten when somebody in it is gone."""
        key = tuple(map(id, parties))
        if key not in self._known:
            while len(self._known) >= KEPT:
                self._forget(next(iter(self._known)))
            forget = lambda _: self._forget(key)  # noqa: E731
            self._known[key] = _CapturedBatch([ref(party, forget) for party in parties])
        self._known.move_to_end(key)
        return self._known[key]

    def _recorded(self, step: Step, batch: "_CapturedBatch") -> "_Recorded | None":
        if batch.recorded and batch.generation != self._arena.generation:
            self._drop(batch)  # something that it writes into is gone
        if batch.recorded is None and batch.steps >= WARM:
            self._memory = self._memory or _Memory()
            batch.recorded = _Recorded(step(), self._memory)
            batch.generation = self._arena.generation
        batch.steps += 1
        return batch.recorded

    def _forget(self, key: tuple[int, ...]) -> None:
        if batch := self._known.pop(key, None):
            self._drop(batch)

    def _drop(self, batch: "_CapturedBatch") -> None:
        if batch.recorded:
            torch.cuda.synchronize(self._device)  # it may be running
            self._latest = batch.recorded = None


class _CapturedBatch:
    """Who stepped together, and how often.

    generation: of the arena, when the step was recorded.
    """

    def __init__(self, parties: Sequence[ref[object]]) -> None:
        self._parties = parties  # kept, or nobody is told when they are gone
        self.steps = 0
        self.recorded: _Recorded | None = None
        self.generation = 0


class _Memory:
    """What recorded steps allocate, which lie over each other: one runs after the other.

    A pool must not be used again once no graph holds it any more; so one does for good.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._holder = torch.cuda.CUDAGraph()
        with self.recording(self._holder):
            torch.zeros(1, device="cuda")

    def recording(self, graph: torch.cuda.CUDAGraph) -> AbstractContextManager[None]:
        # What other threads do meanwhile is no concern of this one.
        return torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local")


class _Recorded:
    """A step, in two parts: what leads to its result, and the rest."""

    def __init__(self, step: Iterator[Tensor], memory: _Memory) -> None:
        self._first, self._replayed = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with memory.recording(self._first):
            self._given = next(step)
        with memory.recording(self._replayed):
            for _ in step:
                raise AssertionError("a step gives one result")
        self._on_host = torch.empty_like(self._given, device="cpu", pin_memory=True)
        self._is_given = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def replay(self) -> Tensor:
        """Waits for the result alone: while it is read, the device goes on."""
        self._first.replay()
        self._on_host.copy_(self._given, non_blocking=True)
        self._is_given.record()
        self._replayed.replay()
        self._is_given.synchronize()
        return self._on_host


class StreamFork:
    """Work that runs beside what follows, until the `with` is left, while a step is recorded.

    What is done in one branch must not touch what another does. Elsewhere they follow each other,
    and so they do within a branch: what that has freed may be written over by another one as soon
    as the way that both came from has gone on.
    """

    def __init__(self, device: torch.device) -> None:
        self._is_open = device.type == "cuda" and _may_branch()
        self._streams: set[torch.cuda.Stream] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in self._streams:
            torch.cuda.current_stream().wait_stream(stream)

    @contextmanager
    def branch(self) -> Iterator[None]:
        if not self._is_open:
            yield
            return
        stream = _streams(torch.cuda.current_device())[next(_turns) % STREAMS]
        stream.wait_stream(torch.cuda.current_stream())
        self._streams.add(stream)
        with torch.cuda.stream(stream):
            yield


def parallel_streams(items: Iterable[T], device: torch.device) -> Iterator[T]:
    """The items, what is done with each in a branch of its own."""
    with StreamFork(device) as beside:
        for item in items:
            with beside.branch():
                yield item


_turns = count()


@cache
def _streams(device: int) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(STREAMS)]  # type: ignore[no-untyped-call]


def _may_branch() -> bool:
    """Whether a step is recorded, and this is not a branch of it."""
    is_recorded = (
        torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        and torch.cuda.is_current_stream_capturing()
    )
    if not is_recorded:
        return False
    return torch.cuda.current_stream() not in _streams(torch.cuda.current_device())
