"""`make test-images` where there is no engine; where there is one, it is its own test."""

import os
import subprocess
import sys

import pytest

from tests.arrange.paths import ROOT


@pytest.mark.parametrize("docker", ["docker-that-is-not-there", f"{sys.executable} -c 1/0"])
def test_without_an_engine_it_says_what_it_needs_and_touches_nothing(docker: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.images"],
        cwd=ROOT,
        env=os.environ | {"DOCKER": docker},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert docker in ended.stderr
    assert "needs a Docker engine 25 or newer" in ended.stderr
