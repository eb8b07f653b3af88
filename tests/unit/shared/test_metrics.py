"""What processes count, and that nothing is swallowed without being counted."""

import ast
import socket
import urllib.request
from collections.abc import Iterator

import pytest
import structlog
from prometheus_client import REGISTRY

from impasto.shared import metrics
from impasto.shared.errors import InvalidSetting
from tests.arrange.paths import ROOT

# Those that hand the error on to somebody who is told of it, or to the one who asked.
HANDED_ON = {
    "services/api/jobs.py": 1,  # the answer is a document without what could not be read
    "services/embedded.py": 1,  # to whoever waits for the worker
    "services/uploads.py": 1,  # to all who wait for the same inspection
    "shared/pictures/child.py": 2,  # as a code, by a pipe
    "shared/wakeups/celery.py": 1,  # /readyz tells it
    "workers/engine/loop.py": 3,  # to the render whose error it is
    "workers/engine/render/render.py": 1,
}


def broad(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = node.type and ast.unparse(node.type)
            if caught in {None, "Exception", "BaseException"}:
                yield node


def answers(handler: ast.ExceptHandler) -> bool:
    """Whether it raises, or counts."""
    body = ast.Module(handler.body, [])
    text = ast.unparse(body)
    return any(isinstance(n, ast.Raise) for n in ast.walk(body)) or "metrics." in text


def test_whatever_is_caught_without_being_known_is_counted_or_handed_on() -> None:
    silent: dict[str, int] = {}
    for folder in ("services", "shared", "workers"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            count = sum(not answers(it) for it in broad(ast.parse(file.read_text())))
            if count:
                silent[file.relative_to(ROOT).as_posix()] = count
    assert silent == HANDED_ON


def test_an_unexpected_error_is_logged_and_counted() -> None:
    before = count("poll_failed")
    with structlog.testing.capture_logs() as lines:
        try:
            1 / 0  # noqa: B018
        except ZeroDivisionError:
            metrics.unexpected(structlog.get_logger(), "poll_failed", job="j")
    assert count("poll_failed") == before + 1
    assert [(line["event"], line["job"], line["exc_info"]) for line in lines] == [
        ("poll_failed", "j", True)
    ]


def test_the_counts_are_there_before_the_first_error() -> None:
    assert count("reconcile_failed") is not None


def test_they_are_served_on_a_port_and_a_taken_one_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        taken.listen()
        with pytest.raises(InvalidSetting, match=f"IMPASTO_METRICS_PORT={port}: accepted: a port"):
            metrics.serve(port)
    metrics.serve(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        told = answer.read().decode()
    assert 'impasto_unexpected_errors_total{event="attempt_failed"}' in told
    assert "impasto_wakeups_unsent_total" in told


def test_no_port_is_no_server() -> None:
    metrics.serve(0)


def count(event: str) -> float | None:
    return REGISTRY.get_sample_value("impasto_unexpected_errors_total", {"event": event})
