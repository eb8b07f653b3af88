"""The pool of processes that decode: what is answered, what is survived, what is left behind."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from impasto.shared.errors import Busy, DecoderKilled, InvalidImage
from impasto.shared.pictures import child, codec
from impasto.shared.pictures.pool import Decoders, Limits
from tests.arrange.paths import ROOT
from tests.arrange.pictures import encode, flat, noise, paint, rescanned
from tests.arrange.processes import decoders_of, exists
from tests.arrange.timing import wait_until

SMALL = paint()
LARGE = flat("RGB", (8000, 5000))  # by its pixels: in bytes it is small
AMPLE = Limits(480 * 2**20, cpu_seconds=60, seconds=120)
MANY_PIXELS = 10**9


@contextmanager
def opened(**options: Any) -> Iterator[Decoders]:
    others = decoders_of()
    with Decoders(**{"inspection": AMPLE, "decoding": AMPLE, **options}) as pool:
        yield pool
    wait_until(
        lambda: decoders_of() <= others, seconds=60
    )  # nothing is left behind, no zombie either


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def pool() -> Iterator[Decoders]:
    with opened() as pool:
        yield pool


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as thread:
        yield thread


# What is answered.


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_child_answers_what_the_codec_does(decoders: Decoders, kind: str) -> None:
    data = paint(3, kind)

    assert decoders.inspect(data, MANY_PIXELS) == codec.inspect(data, MANY_PIXELS)
    assert decoders.inspect_mask(data, MANY_PIXELS) == codec.inspect_mask(data, MANY_PIXELS)
    decoded = decoders.decode(data, 30)
    assert np.array_equal(decoded.picture, codec.decode(data, 30).picture)
    assert decoded.alpha is None
    mask = decoders.decode_mask(data, 20, 10)
    assert np.array_equal(mask, codec.decode_mask(data, 20, 10))
    assert decoded.picture.flags.writeable
    assert mask.flags.writeable


def test_an_alpha_channel_comes_along(decoders: Decoders) -> None:
    picture = noise(1).convert("RGBA")
    picture.putalpha(noise(2).getchannel("R"))
    data = encode(picture, "PNG")

    ours, theirs = decoders.decode(data, 31), codec.decode(data, 31)

    assert theirs.alpha is not None
    assert np.array_equal(ours.alpha, theirs.alpha)
    assert np.array_equal(ours.picture, theirs.picture)


def test_a_refusal_comes_with_what_is_accepted(decoders: Decoders) -> None:
    with pytest.raises(InvalidImage) as theirs:
        codec.inspect(b"no picture", MANY_PIXELS)
    with pytest.raises(InvalidImage) as ours:
        decoders.inspect(b"no picture", MANY_PIXELS)
    assert (ours.value.detail, ours.value.violations) == (
        theirs.value.detail,
        theirs.value.violations,
    )


def test_too_many_scans_are_refused_before_they_are_decoded(decoders: Decoders) -> None:
    for act in (decoders.inspect, decoders.inspect_mask, decoders.decode):
        with pytest.raises(InvalidImage, match="too many scans"):
            act(rescanned(101), 10**6)


def test_pictures_are_answered_each_to_whom_it_belongs(
    decoders: Decoders, thread: ThreadPoolExecutor
) -> None:
    sizes = [(20 + i, 10) for i in range(60)]
    found = thread.map(lambda size: decoders.inspect(paint(size=size), MANY_PIXELS), sizes)
    assert [(facts.width, facts.height) for facts in found] == sizes


# The life of a child.


def test_a_child_is_used_again(pool: Decoders) -> None:
    pool.inspect(SMALL, MANY_PIXELS)
    first = pool.pids
    for seed in range(3):
        pool.inspect(paint(seed), MANY_PIXELS)
    assert len(first) == 1
    assert pool.pids == first


def test_a_pool_that_nobody_uses_costs_no_process() -> None:
    with opened() as pool:
        assert not pool.pids


def test_a_child_is_ready_before_the_first_picture(pool: Decoders) -> None:
    ahead = pool.start().pids
    pool.inspect(SMALL, MANY_PIXELS)
    assert len(ahead) == 1
    assert pool.pids == ahead


def test_a_child_is_retired_after_so_many_pictures(pool: Decoders) -> None:
    pool.inspect(SMALL, MANY_PIXELS)
    first = pool.pids
    for _ in range(child.PICTURES_MAX):
        pool.inspect(SMALL, MANY_PIXELS)
    assert pool.pids
    assert not pool.pids & first


def test_ctrl_c_on_a_terminal_does_not_reach_the_children(pool: Decoders) -> None:
    (pid,) = pool.start().pids
    assert os.getpgid(pid) == pid != os.getpgid(0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows an environment")
def test_a_child_inherits_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for decoders")
    with opened() as pool:
        pool.inspect(SMALL, MANY_PIXELS)
        (pid,) = pool.pids
        assert b"not for decoders" not in Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.parametrize("is_decoding", [False, True])
def test_the_children_end_with_their_parent_however_it_ends(is_decoding: bool) -> None:
    ours, theirs = socket.socketpair()
    program = f"""
import socket, threading
from impasto.shared.pictures.pool import Decoders
from tests.arrange.pictures import flat, paint
decoders = Decoders()
decoders.inspect(paint(), 10**9)
if {is_decoding}:
    threading.Thread(target=decoders.decode, args=(flat("RGBA", (9000, 9000)), 9000)).start()
socket.socket(fileno={theirs.fileno()}).send(b"ready")
threading.Event().wait()
"""
    command = [sys.executable, "-c", program]
    with (
        ours,
        theirs,
        subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()]) as parent,
    ):
        try:
            theirs.close()
            assert ours.recv(5) == b"ready"
            children = decoders_of(parent.pid)
            assert children
        finally:
            parent.kill()
    wait_until(lambda: not any(map(exists, children)), seconds=60)


# What is survived.


def test_a_picture_that_takes_too_long_is_refused_and_the_next_is_not() -> None:
    with opened(inspection=Limits(480 * 2**20, cpu_seconds=0.02, seconds=120)) as pool:
        with pytest.raises(InvalidImage, match=r"takes more than 0\.02 s to decode") as raised:
            pool.inspect(LARGE, MANY_PIXELS)
        assert "480 MiB" in raised.value.violations[0].accepted
        assert pool.inspect(SMALL, MANY_PIXELS).width == 48


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")
def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_is_not() -> None:
    with opened(inspection=Limits(128 * 2**20, cpu_seconds=60, seconds=120)) as pool:
        with pytest.raises(InvalidImage, match="takes more than 128 MiB to decode"):
            pool.inspect(LARGE, MANY_PIXELS)
        assert pool.inspect(SMALL, MANY_PIXELS).width == 48


def test_a_child_that_hangs_is_reported_as_busy_and_replaced() -> None:
    with opened(inspection=Limits(480 * 2**20, cpu_seconds=5, seconds=0.5)) as pool:
        pool.start()
        (pid,) = pool.pids
        with stopped(pid), pytest.raises(Busy, match=r"0\.5 s"):
            pool.inspect(SMALL, MANY_PIXELS)
        assert not exists(pid)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_picture_that_its_decoder_crashes_on_is_damaged(
    pool: Decoders, thread: ThreadPoolExecutor, name: str
) -> None:
    pool.inspect(SMALL, MANY_PIXELS)
    (pid,) = pool.pids
    with stopped(pid):
        answer = thread.submit(pool.inspect, SMALL, MANY_PIXELS)
        wait_until(lambda: pool.busy)
        os.kill(pid, getattr(signal, name))
    with pytest.raises(InvalidImage, match="crashes on it") as raised:
        answer.result()
    assert name in raised.value.violations[0].value
    assert pool.inspect(SMALL, MANY_PIXELS).width == 48


def test_a_child_that_was_killed_at_work_is_replaced_unseen(
    pool: Decoders, thread: ThreadPoolExecutor
) -> None:
    pool.inspect(SMALL, MANY_PIXELS)
    (pid,) = pool.pids
    with stopped(pid):
        answer = thread.submit(pool.inspect, SMALL, MANY_PIXELS)
        wait_until(lambda: pool.busy)
        os.kill(pid, signal.SIGKILL)
    assert answer.result().width == 48


def test_a_child_that_was_killed_at_rest_is_replaced_unseen(pool: Decoders) -> None:
    pool.inspect(SMALL, MANY_PIXELS)
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    assert pool.inspect(SMALL, MANY_PIXELS).width == 48
    assert pid not in pool.pids


def test_where_every_child_is_killed_nothing_is_said_of_the_picture(
    pool: Decoders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(killed))
        with pytest.raises(DecoderKilled):
            pool.inspect(SMALL, MANY_PIXELS)
    assert pool.inspect(SMALL, MANY_PIXELS).width == 48


def test_what_is_survived_leaves_no_descriptor_open() -> None:
    with opened(inspection=Limits(480 * 2**20, cpu_seconds=0.02, seconds=120)) as pool:
        before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - a folder only by name
        for _ in range(5):
            with pytest.raises(InvalidImage):
                pool.inspect(LARGE, MANY_PIXELS)
        assert len(os.listdir("/dev/fd")) <= before + 2  # noqa: PTH208


# Who waits for whom.


@contextmanager
def busy_with_a_large_one(thread: ThreadPoolExecutor, **options: Any) -> Iterator[Decoders]:
    """A pool whose one child for large pictures stands still while it has one."""
    with opened(children=2, large=1, **options) as pool:
        (pid,) = pool.start().pids
        with stopped(pid):
            answer = thread.submit(pool.inspect, bytes(2**21), MANY_PIXELS)
            wait_until(lambda: pool.busy)
            yield pool
        with pytest.raises(InvalidImage):
            answer.result()


def test_small_pictures_pass_a_large_one(thread: ThreadPoolExecutor) -> None:
    with busy_with_a_large_one(thread) as pool:
        for seed in range(5):
            assert pool.inspect(paint(seed), MANY_PIXELS).width == 48
        assert pool.decode(SMALL, 48).picture.shape == (36, 48, 3)


@pytest.mark.parametrize("data", [LARGE, bytes(2**21)], ids=["of pixels", "of bytes"])
def test_large_pictures_do_not_take_the_children_of_small_ones(
    thread: ThreadPoolExecutor, data: bytes
) -> None:
    with busy_with_a_large_one(thread, line=0) as pool:
        with pytest.raises(Busy):
            pool.inspect(data, MANY_PIXELS)
        assert pool.inspect(SMALL, MANY_PIXELS).width == 48


def test_who_waits_too_long_in_the_line_is_refused(thread: ThreadPoolExecutor) -> None:
    brief = Limits(480 * 2**20, cpu_seconds=5, seconds=0.2)
    with busy_with_a_large_one(thread, decoding=brief) as pool, pytest.raises(Busy):
        pool.decode(LARGE, 100)


def test_who_waits_in_the_line_has_its_turn(thread: ThreadPoolExecutor) -> None:
    with busy_with_a_large_one(thread) as pool:
        waiting = thread.submit(pool.inspect, LARGE, MANY_PIXELS)
    assert waiting.result().width == 8000


def test_a_pool_that_is_closed_keeps_no_child(thread: ThreadPoolExecutor) -> None:
    with opened() as pool:
        (pid,) = pool.start().pids
        with stopped(pid):
            answer = thread.submit(pool.inspect, SMALL, MANY_PIXELS)
            wait_until(lambda: pool.busy)
            pool.close()
        assert answer.result().width == 48
    assert not exists(pid)
