"""CUDA's streams while a graph is captured, without a GPU: who waits for whom, and who races."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from impasto.workers.engine.device import graphs


class Stream:
    """Stands for one of CUDA's. `past`: how much of each stream has happened before what is next.

    Source: Lamport 1978, "Time, Clocks, and the Ordering of Events in a Distributed System", as
    vectors: Mattern 1988, "Virtual Time and Global States of Distributed Systems".
    """

    def __init__(self, _device: int | None = None) -> None:
        self.waited_for: list[Stream] = []
        self.past: defaultdict[Stream, int] = defaultdict(int)

    def wait_stream(self, other: "Stream") -> None:
        self.waited_for.append(other)
        for stream, count in other.past.items():
            self.past[stream] = max(self.past[stream], count)

    def act(self) -> "Act":
        self.past[self] += 1
        return Act(self, self.past[self])


class Act(NamedTuple):
    """Something that a stream does."""

    stream: Stream
    count: int

    def is_before(self, stream: Stream) -> bool:
        """Whether it is over before the stream does anything more."""
        return stream.past[self.stream] >= self.count


class Cuda:
    """What of torch.cuda is asked for while a graph is captured."""

    def __init__(self) -> None:
        self.main = self.current = Stream()
        self.is_capturing = True

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


@contextmanager
def capturing() -> Iterator[Cuda]:
    """In it, the engine believes that it is recorded."""
    cuda = Cuda()
    graphs._streams.cache_clear()
    with mock.patch.multiple(
        torch.cuda,
        is_initialized=lambda: True,
        is_current_stream_capturing=lambda: cuda.is_capturing,
        current_device=lambda: 0,
        current_stream=lambda: cuda.current,
        stream=cuda.stream,
        Stream=Stream,
    ):
        yield cuda
    graphs._streams.cache_clear()


class Access(NamedTuple):
    """The bytes of a storage that an operation touches."""

    first: int
    last: int
    writes: bool
    act: Act
    name: str


class Races(TorchDispatchMode):
    """Finds what no order of streams forbids: two that touch the same bytes, one of which writes.

    Also through the allocator: what a stream has allocated goes, once it is freed, to the next that
    asks on that stream, whoever else may still be reading it.
    """

    def __init__(self, cuda: Cuda) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._cuda = cuda
        self._alive: dict[int, StorageWeakRef] = {}
        self._accesses: defaultdict[int, list[Access]] = defaultdict(list)
        self._homes: dict[int, Stream] = {}  # where it was allocated, if that was seen
        self._freed: defaultdict[Stream, list[Access]] = defaultdict(list)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self._bury()
        given = kwargs or {}
        found = func(*args, **given)
        schema = func._schema
        if func.namespace == "prim" or _is_view(schema):
            return found
        act = self._cuda.current.act()
        new = [t for t in _on_gpu(found) if t.untyped_storage()._cdata not in self._alive]
        for tensor in new:
            self._allocate(tensor, str(func))
        for i, argument in enumerate(schema.arguments):
            value = args[i] if i < len(args) else given.get(argument.name)
            writes = bool(argument.alias_info and argument.alias_info.is_write)
            for tensor in _on_gpu(value):
                self._touch(tensor, writes, act, str(func))
        for tensor in new:
            self._touch(tensor, True, act, str(func))
        return found

    def _bury(self) -> None:
        """What nobody holds any more is its stream's again."""
        for key in [key for key, storage in self._alive.items() if storage.expired()]:
            del self._alive[key]
            accesses = self._accesses.pop(key, [])
            if home := self._homes.pop(key, None):
                self._freed[home] += accesses

    def _allocate(self, tensor: Tensor, name: str) -> None:
        key, here = tensor.untyped_storage()._cdata, self._cuda.current
        if key in self._alive:
            return
        self._alive[key] = StorageWeakRef(tensor.untyped_storage())
        self._homes[key] = here
        for access in self._freed.pop(here, []):
            if not access.act.is_before(here):
                self.found.add(f"{name} may get what {access.name} still uses")

    def _touch(self, tensor: Tensor, writes: bool, act: Act, name: str) -> None:
        key = tensor.untyped_storage()._cdata
        self._alive.setdefault(key, StorageWeakRef(tensor.untyped_storage()))
        size = tensor.element_size()
        first = size * tensor.storage_offset()
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        last = first + size * (1 + sum((length - 1) * stride for length, stride in steps))
        for other in self._accesses[key]:
            meets = first < other.last and other.first < last and (writes or other.writes)
            if meets and other.act != act and not other.act.is_before(act.stream):
                self.found.add(f"{name} races with {other.name}")
        if tensor.numel():
            self._accesses[key].append(Access(first, last, writes, act, name))


def _is_view(schema: Any) -> bool:
    """Whether an operation touches nothing: it returns what it was given, and writes nothing."""
    aliases = [one.alias_info for one in (*schema.arguments, *schema.returns) if one.alias_info]
    return bool(aliases) and not any(alias.is_write for alias in aliases)


def _on_gpu(values: Any) -> list[Tensor]:
    return [t for t in tree_leaves(values) if isinstance(t, Tensor) and t.device.type == "cuda"]
