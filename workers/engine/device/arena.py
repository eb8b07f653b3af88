"""Memory that every iteration uses again."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Arena:
    """Named buffers on one device that grow when they must, and are kept.

    A large fresh tensor's pages must be mapped before they are written: at 1024 px that took a
    quarter of the convolutions' time. What is measured is what is held: `size_bytes` is exact.
    Belongs to the thread that owns the device, and so takes no lock.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._buffers: dict[tuple[str, torch.dtype], Tensor] = {}
        self.generation = 0  # rises when a buffer is gone: whoever remembers where it was must know

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialised tensor; whatever was taken under this name before is overwritten."""
        count = torch.Size(shape).numel()
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < count:
            if self._buffers.pop((name, dtype), None) is not None:
                self.generation += 1
            del buffer  # given back before more is asked for
            buffer = torch.empty(count, dtype=dtype, device=self._device)
            self._buffers[name, dtype] = buffer
        return buffer[:count].view(shape)

    @contextmanager
    def temporary(self) -> Iterator[None]:
        """For what is not done again: gives back what grows until the `with` is left."""
        before = {key: buffer.numel() for key, buffer in self._buffers.items()}
        try:
            yield
        finally:
            for key, buffer in list(self._buffers.items()):
                if buffer.numel() > before.get(key, 0):
                    del self._buffers[key]  # `take` said so, if somebody knew a smaller one

    def clear(self) -> None:
        """Gives everything back."""
        self._buffers.clear()
        self.generation += 1

    @property
    def size_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self._buffers.values())
