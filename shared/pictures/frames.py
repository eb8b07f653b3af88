"""What travels between the pool and a child: a JSON header, and bytes as they are.

Nothing here is unpickled: a child has read what a client sent.
"""

import json
import math
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LENGTHS = struct.Struct(">IQ")  # of the header, and of what follows
_HEADER_BYTES_MAX = 2**20
_DTYPES: dict[str, np.dtype[Any]] = {"uint8": np.dtype(np.uint8), "uint16": np.dtype(np.uint16)}


class Closed(Exception):
    """The other side has gone."""


def send(connection: socket.socket, header: dict[str, Any], *parts: Any) -> None:
    """Send a header, and parts that have the buffer interface.

    Raises Closed, or TimeoutError where the connection has a timeout.
    """
    views = [memoryview(part).cast("B") for part in parts]
    text = json.dumps(header).encode()
    try:
        connection.sendall(_LENGTHS.pack(len(text), sum(view.nbytes for view in views)) + text)
        for view in views:
            connection.sendall(view)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed from error


class Receiver:
    """Reads one frame: its header first, then what follows.

    deadline: of `time.monotonic`; beyond it, reading raises TimeoutError.
    """

    def __init__(self, connection: socket.socket, deadline: float | None = None) -> None:
        self._connection = connection
        self._deadline = deadline
        header_bytes, self._left = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if header_bytes > _HEADER_BYTES_MAX:
            raise Closed("a header out of bounds")
        try:
            header = json.loads(self._read(header_bytes))
        except ValueError as error:
            raise Closed("no header") from error
        self.header: dict[str, Any] = header if isinstance(header, dict) else {}

    def rest(self) -> bytes:
        """All that follows, on a connection without a deadline."""
        left, self._left = self._left, 0
        data = b""
        while len(data) < left:  # once, unless a signal comes between: no second copy
            data += self._receive(left - len(data))
        return data

    def array(self, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
        """The next array of those that follow, read into its place at once."""
        try:
            kind = _DTYPES[dtype]
            self._left -= math.prod(shape) * kind.itemsize
            is_there = self._left >= 0 and min(shape) >= 1
        except (LookupError, TypeError, ValueError) as error:
            raise Closed("no array") from error
        if not is_there:
            raise Closed("an array that is not there")
        array: NDArray[Any] = np.empty(tuple(shape), kind)
        self._read_into(array.data.cast("B"))
        return array

    def _read(self, count: int) -> bytearray:
        buffer = bytearray(count)
        self._read_into(memoryview(buffer))
        return buffer

    def _receive(self, count: int) -> bytes:
        try:
            if data := self._connection.recv(count, socket.MSG_WAITALL):
                return data
        except OSError as error:
            raise Closed from error
        raise Closed

    def _read_into(self, view: memoryview) -> None:
        while view:
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._connection.settimeout(left)
            try:
                count = self._connection.recv_into(view)
            except TimeoutError:
                raise
            except OSError as error:
                raise Closed from error
            if not count:
                raise Closed
            view = view[count:]
