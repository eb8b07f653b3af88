"""The process that decodes: `python -m impasto.shared.pictures.child`, on a socket as its stdin.

One picture after the other, each within its bounds. Too much processor time ends the process,
whatever code it is in, and so does the end of its parent.
"""

import fcntl
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InvalidImage
from . import codec, costs, frames

PICTURES_MAX = 1000  # then a fresh process takes over, whatever leaked
_GROWN_BYTES = 64 * 2**20  # so does it where the allocator gave so much not back
_CODE_BYTES = 2**30  # of libraries and stacks: addresses, most of which are never touched

_Answer = tuple[dict[str, Any], list[NDArray[Any]]]


def main() -> None:
    """Answer until the parent has gone, or it is time for a fresh process."""
    count, grown = PICTURES_MAX, _memory("VmData") + _GROWN_BYTES
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold somebody's picture
    # C libraries complain of pictures on stderr; what could not be imported was told there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as connection, suppress(frames.Closed):
        while True:
            request = frames.Receiver(connection)
            data = request.rest()
            with _bounded(connection, request.header):
                header, arrays = _answer(request.header, data)
            del data
            count -= 1
            is_last = not count or _memory("VmData") > grown
            frames.send(connection, header | {"is_last": is_last}, *arrays)
            del header, arrays
            if is_last:
                return


def _answer(request: dict[str, Any], data: bytes) -> _Answer:
    try:
        if (bound := request.get("pixels_max")) and _pixels(data) > bound:
            return {"is_large": True}, []
        costs.check(data)
        return _told(getattr(codec, request["act"])(data, *request["arguments"]))
    except InvalidImage as error:
        violations = [[v.field, v.value, v.accepted] for v in error.violations]
        return {"refused": [error.detail, violations]}, []
    except MemoryError:
        return {"is_exhausted": True}, []
    except Exception:
        return {"failed": traceback.format_exc()}, []


def _told(result: codec.Facts | codec.Decoded | NDArray[Any]) -> _Answer:
    if isinstance(result, codec.Facts):
        return {"facts": vars(result)}, []
    arrays = [result.picture, result.alpha] if isinstance(result, codec.Decoded) else [result]
    dense = [np.ascontiguousarray(array) for array in arrays if array is not None]
    return {"arrays": [[str(array.dtype), list(array.shape)] for array in dense]}, dense


def _pixels(data: bytes) -> int:
    """How many pixels the picture's header tells of; 0 where it tells nothing."""
    try:
        with Image.open(BytesIO(data), formats=tuple(codec.FORMATS)) as image:
            return image.width * image.height
    except Exception:  # the codec will tell what is wrong with it
        return 0


@contextmanager
def _bounded(connection: socket.socket, request: dict[str, Any]) -> Iterator[None]:
    """Hold this process to what the request grants."""
    _limit(resource.RLIMIT_DATA, request["memory_bytes"])
    _limit(resource.RLIMIT_AS, request["memory_bytes"] + _CODE_BYTES)
    signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])  # SIGPROF ends the process
    # The parent is silent until it has its answer: what comes now is its end, as SIGIO. On macOS,
    # where SIGIO is ignored, the process ends when it answers.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(connection, fcntl.F_SETFL, flags)
        signal.setitimer(signal.ITIMER_PROF, 0)


def _limit(what: int, soft: int) -> None:
    with suppress(ValueError, OSError):  # macOS has the name of it only
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(
            what, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
        )


def _memory(name: str) -> int:
    """Bytes, by the kernel's name for what is asked; 0 where it does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0]) * 2**10
    except (OSError, IndexError):
        return 0


if __name__ == "__main__":
    main()
