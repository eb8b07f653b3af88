"""Ways to do a thing, timed in turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def repeat(way: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        way()


def alternating(
    ways: dict[str, Callable[[], Any]],
    rounds: int,
    first: dict[str, Callable[[], Any]] | None = None,
) -> dict[str, float]:
    """Median seconds of each, in turns, there and back, so that a slow minute hits all alike.

    first: what is done before a turn is measured, of which the first step after another's turn
    finds nothing in the caches: it took a product twice its time, and a step a third more.
    """
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        for name, way in list(ways.items())[:: 1 - 2 * (i % 2)]:
            if first:
                first[name]()
                wait()
            began = time.perf_counter()
            way()
            wait()
            measured[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def wait() -> None:
    """Until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
