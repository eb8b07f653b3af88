"""What the log says, and what it must not."""

import json
import subprocess
import sys

from tests.arrange.paths import ROOT

SCRIPT = """
import logging, sys, warnings
import structlog
from impasto.shared import logs
from impasto.shared.settings import Settings

logs.configure(Settings(log_format=sys.argv[1], log_level="info"))
structlog.contextvars.bind_contextvars(request_id="r1")
structlog.get_logger("ours").info("claimed", job="j1")
structlog.get_logger("ours").debug("unheard")
logging.getLogger("theirs").warning("with %s", "arguments")
warnings.warn("old")

def fail():
    password = "hunter" + str(2)
    raise RuntimeError("broken")

try:
    fail()
except RuntimeError:
    structlog.get_logger("ours").exception("failed")
"""


def logged(log_format: str) -> str:
    """What the script writes, in a process of its own: the configuration is a process's."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, log_format],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == ""
    return done.stderr


def test_machines_get_one_document_per_line() -> None:
    ours, theirs, warning, failure = map(json.loads, logged("json").splitlines())
    assert (ours["event"], ours["job"], ours["level"]) == ("claimed", "j1", "info")
    assert (theirs["event"], theirs["logger"]) == ("with arguments", "theirs")
    assert "old" in warning["event"]
    assert "RuntimeError: broken" in failure["exception"]
    assert all(line["request_id"] == "r1" for line in (ours, theirs, warning, failure))


def test_people_get_text() -> None:
    lines = logged("text").splitlines()
    assert "claimed" in lines[0]
    assert "job=j1" in lines[0]
    assert "\x1b" not in lines[0]  # no colours into a pipe


def test_what_is_neither_is_for_machines() -> None:
    assert json.loads(logged("auto").splitlines()[0])["event"] == "claimed"


def test_a_traceback_shows_no_variables() -> None:
    for log_format in ("json", "text"):
        output = logged(log_format)
        assert "RuntimeError: broken" in output
        assert "hunter2" not in output
