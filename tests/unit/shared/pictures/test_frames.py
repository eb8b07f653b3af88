"""What travels between the pool and a child, and what a child that lies can do: nothing."""

import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from impasto.shared.pictures import frames


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]


def test_a_header_and_arrays_arrive_as_they_were_sent(ends: Ends) -> None:
    ours, theirs = ends
    arrays = [np.arange(12, dtype=np.uint16).reshape(2, 2, 3), np.ones((3, 4), np.uint8)]
    frames.send(theirs, {"a": 1}, *arrays)

    received = frames.Receiver(ours, time.monotonic() + 60)

    assert received.header == {"a": 1}
    for sent in arrays:
        assert np.array_equal(received.array(str(sent.dtype), sent.shape), sent)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [
        ("object", [1, 1, 3]),
        ("uint8", [10**9, 10**9, 3]),
        ("uint8", [-1, -1, 3]),
        ("uint8", [0, 3]),
        ("uint8", "ab"),
        ("uint8", None),
        (None, [1]),
        (["uint8"], [1]),
    ],
)
def test_an_array_that_was_not_sent_is_not_made(ends: Ends, dtype: Any, shape: Any) -> None:
    ours, theirs = ends
    frames.send(theirs, {}, bytes(12))
    with pytest.raises(frames.Closed):
        frames.Receiver(ours, time.monotonic() + 60).array(dtype, shape)


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack(">IQ", 2**31, 0),
        struct.pack(">IQ", 4, 0) + b"{..}",
        struct.pack(">IQ", 4, 0) + b"\xff\xff\xff\xff",
        struct.pack(">IQ", 50, 0) + b"{}",
        b"",
    ],
    ids=["huge header", "no JSON", "no UTF-8", "cut short", "nothing"],
)
def test_a_frame_that_is_none_is_as_good_as_an_end(ends: Ends, frame: bytes) -> None:
    ours, theirs = ends
    theirs.sendall(frame)
    theirs.close()
    with pytest.raises(frames.Closed):
        frames.Receiver(ours, time.monotonic() + 60)


def test_a_header_that_is_no_object_says_nothing(ends: Ends) -> None:
    ours, theirs = ends
    text = json.dumps([1]).encode()
    theirs.sendall(struct.pack(">IQ", len(text), 0) + text)
    assert frames.Receiver(ours).header == {}


def test_a_frame_that_does_not_come_is_not_waited_for(ends: Ends) -> None:
    with pytest.raises(TimeoutError):
        frames.Receiver(ends[0], time.monotonic() + 0.05)
