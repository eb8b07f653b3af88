"""A process whose wall clock is wrong from its first moment on, for Python and C: libfaketime."""

import ctypes
import sysconfig
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

TOLERANCE_SECONDS = 5.0  # between one process's look at its clocks and another's, on two busy cores
WAIT_SECONDS = 0.05
MONOTONIC = ("monotonic", "waited")  # of the clocks, those that stay right


class NoFaketimeError(Exception):
    """Clocks cannot be wrong here; the message names what is missing."""


def skewed(seconds: float) -> dict[str, str]:
    """The variables under which a process's wall clock is so far ahead. Raises NoFaketimeError.

    They have to be there when it is exec'ed; whatever it forks is as wrong.
    """
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Without it each timed wait on a monotonic condition, which is how Python passes its GIL
        # on, is over at once: the library takes the wrong wall clock's time off its end.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def seen() -> dict[str, float]:
    """What this process's clocks show, in seconds; and how long a wait of `WAIT_SECONDS` took."""
    began = time.monotonic()
    threading.Event().wait(WAIT_SECONDS)
    return {
        "waited": time.monotonic() - began,
        "monotonic": time.monotonic(),
        "time": time.time(),
        "datetime": datetime.now(UTC).timestamp(),
        "C": float(ctypes.CDLL(None).time(None)),
    }


def wrong(theirs: Mapping[str, float], ours: Mapping[str, float], skew_seconds: float) -> list[str]:
    """Those clocks of another process that are not as far ahead of ours as they should be."""
    return [
        f"{name} is {theirs[name] - ours[name]:+.1f} s ahead, not {asked:+.1f} s"
        for name in ours
        for asked in [0.0 if name in MONOTONIC else skew_seconds]
        if abs(theirs[name] - ours[name] - asked) > TOLERANCE_SECONDS
    ]


def _library() -> Path:
    spec = find_spec("libfaketime")
    if spec is None or spec.origin is None:
        raise NoFaketimeError(
            "wrong clocks need the PyPI package libfaketime, which is for Linux on x86_64"
        )
    if not sysconfig.get_config_var("HAVE_SEM_CLOCKWAIT"):
        # sem_timedwait is told when by the wrong clock, and the package's build leaves it as it is.
        raise NoFaketimeError(
            "wrong clocks need a Python whose locks wait by the monotonic clock:"
            " one built with glibc 2.30 or newer"
        )
    return Path(spec.origin).with_name("vendor") / "libfaketime" / "src" / "libfaketime.so.1"
