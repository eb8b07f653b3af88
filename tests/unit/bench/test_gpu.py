"""The check that waits for a GPU, tried without one, so that it works on the day there is one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_goes_on_after_a_part_that_fails(tmp_path: Path) -> None:
    parts = ["default-32", "tests", "start-32"]  # no job may be as small as that
    done = check("--device", "cpu", "--size", "32", "--trial", "--out", str(tmp_path), *parts)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "not done: default-32\n" in done.stderr
    (file,) = tmp_path.glob("*-gpu-32.json")
    found = json.loads(file.read_text())
    assert found["start"]["style_new"]["seconds"] > 0
    assert found["machine"]["device"] == "cpu"


def test_what_it_measures_is_kept_by_size(tmp_path: Path) -> None:
    parts = ["default-64", "company-32"]
    done = check("--device", "cpu", "--size", "64", "--trial", "--out", str(tmp_path), *parts)

    assert done.returncode == 0, done.stdout + done.stderr
    small, large = (json.loads(file.read_text()) for file in sorted(tmp_path.iterdir()))
    assert large["default"]["seconds"] > 0
    assert small["company"]["2 iterations"]["losses_ratio"] == pytest.approx(1, rel=1e-2)


def test_every_section_that_it_asks_for_is_one(tmp_path: Path) -> None:
    from bench.engine import SECTIONS as KNOWN

    asked = {part.name.partition("-")[0] for part in gpu.parts("cuda", 512, tmp_path, ())}

    assert asked - {"tests"} <= set(KNOWN)


def test_a_part_that_takes_too_long_is_stopped() -> None:
    part = gpu.Part("long", ("-c", "import time; time.sleep(60)"), limit_seconds=0.5)

    assert "stopped" in gpu._run(part, until=float("inf"))


def test_an_unknown_part_is_answered_with_the_names() -> None:
    done = check("batches")

    assert done.returncode == 2
    assert "accepted: tests, steps-512" in done.stderr
