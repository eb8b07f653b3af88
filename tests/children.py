"""The processes in which pictures are decoded, as the system sees them."""

import os
import subprocess
import time
from collections.abc import Callable


def decoders_of(parent: int | None = None) -> set[int]:
    """The ids of the processes that decode for this one or another, zombies included."""
    told = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 3) for line in told.splitlines()]
    asked = os.getpid() if parent is None else parent
    return {
        int(row[0])
        for row in rows
        if int(row[1]) == asked and (row[2][0] == "Z" or "shared.pictures.child" in row[-1])
    }


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
