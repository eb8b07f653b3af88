"""A job's progress on a terminal: a bar that moves, or where none can, a line now and then."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from .documents import JobDocument

LINE_SECONDS = 5.0
_SPARKS = "▁▂▃▄▅▆▇█"
_SPARKLINE_WIDTH = 8


@contextmanager
def shown(
    console: Console, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[JobDocument], None]]:
    """A function that shows each status it is given; what a job is warned of, once, above it.

    clock: monotonic, in seconds.
    """
    if not console.is_terminal:
        yield _lines(console, clock)
        return
    with Progress(
        SpinnerColumn(style="dark_orange"),
        TextColumn("{task.description}"),
        BarColumn(
            bar_width=None,
            complete_style="dark_orange",
            pulse_style="dark_orange",
            finished_style="green",
            table_column=Column(max_width=24, ratio=1),
        ),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True)),
        console=console,
    ) as bar:
        yield _bar(bar)


def activity(status: JobDocument) -> str:
    """What the job is at: `queued`, `loading`, `rendering`, `cancelling`, `succeeded`."""
    if status.times.cancel_requested_at and not status.is_over:
        return "cancelling"
    return status.phase or status.status.value


def described(status: JobDocument) -> str:
    """How far the job is, in a few words: `60/100 · 4.2 it/s · loss 1.23e+05 · 0:00:09 left`."""
    progress, queue = status.progress, status.queue
    if queue:
        place = "next" if queue.position == 1 else f"{queue.position - 1} ahead"
        return f"{place} · {queue.why_not}" if queue.why_not else place
    words = [f"{progress.iteration}/{progress.iterations}"]
    if progress.it_per_s:
        words.append(f"{progress.it_per_s:.3g} it/s")
    if status.loss:
        words.append(f"loss {status.loss.total:.3g}")
    if status.eta_seconds is not None:
        words.append(f"{timedelta(seconds=math.ceil(status.eta_seconds))} left")
    return " · ".join(words)


def sparkline(values: Sequence[float]) -> str:
    """The course of positive values, logarithmic, in a few characters."""
    step = max(1, math.ceil(len(values) / _SPARKLINE_WIDTH))
    heights = [math.log(value) for value in values[::step] if value > 0]
    if len(heights) < 2:
        return ""
    low, spread = min(heights), max(heights) - min(heights) or 1
    return "".join(_SPARKS[round((height - low) / spread * 7)] for height in heights)


def warn(console: Console, status: JobDocument) -> None:
    """Say what the job is warned of, a line each."""
    for warning in status.warnings:
        console.print(
            f"warning: {warning}",
            style="dark_orange",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def _bar(bar: Progress) -> Callable[[JobDocument], None]:
    task = bar.add_task("", total=None, words="")
    totals: list[float] = []
    is_new = True

    def show(status: JobDocument) -> None:
        nonlocal is_new
        if is_new:
            warn(bar.console, status)
            is_new = False
        progress = status.progress
        if status.loss:
            totals.append(status.loss.total)
        bar.update(
            task,
            description=activity(status),
            completed=progress.iteration,
            total=progress.iterations if progress.iteration else None,  # None: it only pulses
            words=f"{escape(described(status))}  [dim]{sparkline(totals)}[/dim]",
        )

    return show


def _lines(console: Console, clock: Callable[[], float]) -> Callable[[JobDocument], None]:
    told: tuple[str, str | None] = ("", None)
    next_at = -math.inf

    def show(status: JobDocument) -> None:
        nonlocal told, next_at
        if not told[0]:
            warn(console, status)
        now = activity(status), status.queue.why_not if status.queue else None
        if now != told or clock() >= next_at:
            console.print(f"{now[0]:<10} {described(status)}", highlight=False, soft_wrap=True)
            told, next_at = now, clock() + LINE_SECONDS

    return show
