import io
from typing import Any

import pytest
from rich.console import Console

from impasto.services.client import progress
from impasto.services.client.documents import JobDocument


def status(iteration: int = 0, state: str = "running", **more: Any) -> JobDocument:
    document: dict[str, Any] = {
        "id": "17",
        "version": 1,
        "status": state,
        "phase": "rendering" if state == "running" else None,
        "times": {"created_at": "2026-01-01T00:00:00Z"},
        "progress": {"fraction": iteration / 100, "iteration": iteration, "iterations": 100},
        "spec": {},
        "spec_digest": "",
        "attempt": {"n": 1},
    }
    return JobDocument.model_validate(document | more)


def rendering(iteration: int, total: float) -> JobDocument:
    return status(
        iteration,
        progress={"fraction": 0, "iteration": iteration, "iterations": 100, "it_per_s": 4.25},
        loss={"total": total, "content": 1, "style": 2, "tv": 0},
        eta_seconds=75.2,
    )


def shown(statuses: list[JobDocument], *, is_terminal: bool, seconds: float = 1) -> str:
    """What is written while one status follows another after so many seconds."""
    file = io.StringIO()
    console = Console(file=file, force_terminal=is_terminal, width=80, legacy_windows=False)
    now = 0.0
    with progress.shown(console, clock=lambda: now) as show:
        for each in statuses:
            show(each)
            now += seconds
    return file.getvalue()


def test_progress_is_reported_in_a_few_words() -> None:
    words = progress.described(rendering(60, 123456.0))
    assert words == "60/100 · 4.25 it/s · loss 1.23e+05 · 0:01:16 left"


@pytest.mark.parametrize(
    ("position", "why_not", "words"),
    [
        (1, None, "next"),
        (3, None, "2 ahead"),
        (1, "no worker is alive", "next · no worker is alive"),
        (3, "its slot is taken", "2 ahead · its slot is taken"),
    ],
)
def test_a_waiting_job_tells_why(position: int, why_not: str | None, words: str) -> None:
    queue = {"position": position, "runnable": why_not is None, "why_not": why_not}
    assert progress.described(status(state="queued", queue=queue)) == words


def test_without_a_terminal_there_is_a_line_every_few_seconds() -> None:
    going = [rendering(i, 1e6) for i in range(20)]
    lines = shown([*going, status(100, "succeeded")], is_terminal=False).splitlines()
    shown_at = [line.split()[1] for line in lines]
    assert shown_at == ["0/100", "5/100", "10/100", "15/100", "100/100"]


def test_every_change_of_what_it_does_has_a_line_at_once() -> None:
    phases = ["loading", "rendering", "saving"]
    lines = shown([status(1, phase=phase) for phase in phases], is_terminal=False, seconds=0)
    assert [line.split()[0] for line in lines.splitlines()] == phases


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_job_is_warned_of_is_said_once(is_terminal: bool) -> None:
    warning = {"code": "enlarged", "field": "content", "message": "it has [9 x 9] px"}
    going = [status(i, warnings=[warning]) for i in range(3)]
    said = shown([*going, status(100, "succeeded", warnings=[warning])], is_terminal=is_terminal)
    assert said.count("warning: content: it has [9 x 9] px") == 1


def test_a_new_reason_to_wait_has_a_line_at_once() -> None:
    """There is no other: as long as it stays the same, there is no other status either."""
    reasons = [None, "no worker is alive", "no worker is alive", "its slot is taken"]
    waiting = [
        status(state="queued", queue={"position": 1, "runnable": not why, "why_not": why})
        for why in reasons
    ]
    lines = shown(waiting, is_terminal=False, seconds=0).splitlines()
    words = ["next", "next · no worker is alive", "next · its slot is taken"]
    assert lines == [f"queued     {each}" for each in words]


def test_on_a_terminal_a_bar_shows_how_far_it_is() -> None:
    bar = shown([rendering(50, 1e6), rendering(60, 1e5)], is_terminal=True)
    assert "━" in bar
    assert "60/100 · 4.25 it/s · loss 1e+05" in bar
    assert "█▁" in bar


def test_a_cancel_request_shows_until_the_job_has_ended() -> None:
    times = {"created_at": "2026-01-01T00:00:00Z", "cancel_requested_at": "2026-01-01T00:00:01Z"}
    written = shown(
        [status(5, times=times), status(5, "cancelled", times=times)], is_terminal=False
    )
    assert [line.split()[0] for line in written.splitlines()] == ["cancelling", "cancelled"]


def test_a_sparkline_falls_as_the_loss_falls() -> None:
    assert progress.sparkline([10.0**-i for i in range(8)]) == "█▇▆▅▄▃▂▁"
    assert progress.sparkline([5.0]) == ""
    assert progress.sparkline([5.0, 5.0]) == "▁▁"
    assert len(progress.sparkline([1.0] * 1000)) <= 8
    assert progress.sparkline([0.0, 2.0, 1.0]) == "█▁"
