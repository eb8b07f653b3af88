"""What cannot work does not start, and says why. The worker's start: test_worker_options.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arrange.paths import BIN, ROOT

STATUS = {"api": 3, "reconciler": 1, "impasto": 2}  # gunicorn has its own
CONFIGURATION = ROOT / "deploy" / "gunicorn.conf.py"
COMMANDS = {
    "api": [BIN / "gunicorn", "--config", CONFIGURATION, "--bind", "127.0.0.1:0"],
    "reconciler": [sys.executable, "-m", "impasto.services.reconciler"],
    "impasto": [BIN / "impasto", "up"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_broker_that_cannot_be_is_refused_at_the_start(name: str, tmp_path: Path) -> None:
    variables = {
        "IMPASTO_HOME": str(tmp_path),
        "IMPASTO_BROKER_URL": "redis://:secret@host/impasto",
        "IMPASTO_SLOT": "3",
    }

    ended = subprocess.run(
        COMMANDS[name],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == STATUS[name]
    told = "IMPASTO_BROKER_URL=redis://:***@host/impasto: accepted: redis://HOST:PORT/N"
    assert told in ended.stderr
    assert "IMPASTO_SLOT is no setting and is ignored; did you mean IMPASTO_SLOTS?" in ended.stderr
    assert "secret" not in ended.stderr
    assert ("Traceback" in ended.stderr) == (name == "api"), "gunicorn shows one, before the line"
