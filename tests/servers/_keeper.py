"""Keeps one server and its folder, and lets neither outlive the process that asked for them.

Run as `python _keeper.py PLACE`. It makes a folder in PLACE and tells its name; then it takes
orders, one line of JSON each: the arguments of `run`. To each it answers with the process id, and
with the exit status once the last process of the command is gone. When its stdin ends, because
the owner closed it or died, be it by `kill -9`, it stops what runs, deletes the folder and ends:
closing and dying are one path. Parent-death signals would do less: they are Linux only, follow
the thread that started the server, and leave the folder.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 5.0
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def main(place: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A handler and not SIG_IGN, which the server would inherit.
        signal.signal(number, lambda *_: None)
    if sys.platform == "linux":
        # A container's first process may not bury the orphans of a killed server: we do, in `run`.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory(prefix="impasto-", dir=place) as folder:
        tell(folder)
        for order in sys.stdin:
            run(**json.loads(order))


def run(
    command: list[str], log: str, stop_signal: int, user: int | None, group: int | None
) -> None:
    """Run the command until its last process is gone, or until our owner is."""
    gone, alive = os.pipe()
    with Path(log).open("ab") as output:
        server = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
            pass_fds=[alive],
        )
    os.close(alive)  # now only the server and its children hold it: `gone` ends when they all have
    tell(server.pid)
    select.select([sys.stdin, gone], [], [])
    for number in (stop_signal, signal.SIGKILL):
        if select.select([gone], [], [], 0)[0]:
            break
        with suppress(OSError):  # nobody left in the group; its children may have left it
            os.killpg(server.pid, number)
        select.select([gone], [], [], GRACE_SECONDS)
    os.close(gone)
    status = server.wait()
    with suppress(ChildProcessError):
        while True:
            os.wait()
    tell(status)


def tell(answer: object) -> None:
    with suppress(BrokenPipeError):  # the owner is gone, and the folder still has to go
        os.write(sys.stdout.fileno(), f"{answer}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
