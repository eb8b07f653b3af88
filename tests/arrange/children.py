"""The processes in which pictures are decoded, as the system sees them."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator


def decoders_of(parent: int | None = None) -> set[int]:
    """The ids of the processes that decode for this one or another, zombies included."""
    return {
        pid
        for pid, state, command in _children(os.getpid() if parent is None else parent)
        if state == "Z" or "impasto.shared.pictures.child" in command
    }


def children_of(parent: int) -> set[int]:
    return {pid for pid, _, _ in _children(parent)}


def _children(parent: int) -> Iterator[tuple[int, str, str]]:
    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    for line in told.splitlines():
        pid, its_parent, state, *command = line.split(None, 3)
        if int(its_parent) == parent:
            yield int(pid), state[0], "".join(command)


def exists(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    told = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(told) and told[0] != "Z"


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)
