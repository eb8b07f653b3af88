"""A process that has imported everything, and forks what is wanted: `python -m tests.chaos.zygote`.

A worker takes six seconds of two cores to import torch and Celery, and chaos kills a hundred of
them. The zygote never computes and starts no thread, so that a fork of it is as good as new. It
takes orders on stdin, a line of JSON each, and tells on stdout who was born and who is gone. When
its stdin ends, so does it, and the kernel ends its children with it.
"""

import ctypes
import json
import os
import selectors
import signal
import sys
import threading
import traceback
from contextlib import suppress

from tests.chaos import clocks, roles

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    roles.warm()
    assert threading.active_count() == 1, "a fork copies one thread only"
    woken, signalled = os.pipe()
    for end in (woken, signalled):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(signalled)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # the default tells nobody
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then closes us
    tell(clocks=clocks.seen())
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                order = sys.stdin.buffer.raw.readline()
                if not order:
                    return
                bear(json.loads(order))
            else:
                os.read(woken, 4096)
                bury()


def bear(order: dict[str, object]) -> None:
    child = os.fork()
    if child:
        tell(born=child)
        return
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        roles.play(**order)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def bury() -> None:
    with suppress(ChildProcessError):
        while True:
            child, status = os.waitpid(-1, os.WNOHANG)
            if child == 0:
                return
            tell(gone=child, status=os.waitstatus_to_exitcode(status))


def tell(**news: object) -> None:
    os.write(1, json.dumps(news).encode() + b"\n")


if __name__ == "__main__":
    main()
