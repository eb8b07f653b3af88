"""How `celery worker` may be told to work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arrange.paths import BIN, ROOT

POOLS = "accepted: threads, which is the default"
COUNT = "accepted: 2, as IMPASTO_SLOTS says"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-P", "processes"], f"worker: --pool processes: {POOLS}"),
        (["-P", "prefork"], f"worker: --pool prefork: {POOLS}"),
        (["--pool=solo", "-c", "2"], f"worker: --pool solo: {POOLS}"),
        (["-c", "3"], f"worker: --concurrency 3: {COUNT}"),
        (["--autoscale=4,1"], f"worker: --concurrency (4, 1): {COUNT}"),
    ],
    ids=" ".join,
)
def test_another_way_to_work_is_refused_at_the_start(options: list[str], told: str) -> None:
    ended = subprocess.run(
        [BIN / "celery", "-A", "tests.system.pools", "worker", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (ended.returncode, ended.stderr.splitlines()[-1][: len(told)]) == (1, told)


@pytest.mark.parametrize("options", [["-c", "2", "--pool=threads"]], ids=" ".join)
def test_the_way_it_works_may_be_said(options: list[str]) -> None:
    begin = (
        "import sys; from celery import signals; from celery.__main__ import main\n"
        "signals.worker_ready.connect(lambda **_: (print('ready', flush=True), __import__('os')"
        "._exit(0)), weak=False)\n"
        f"sys.argv[1:] = ['-A', 'tests.system.pools', 'worker', *{options!r}]; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", begin], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip

    assert (ended.returncode, ended.stdout.splitlines()[-1]) == (0, "ready"), ended.stderr


def test_a_worker_that_has_loaded_ends_when_its_pool_is_refused(tmp_path: Path) -> None:
    environment = {"IMPASTO_HOME": str(tmp_path), "IMPASTO_THREADS": "1"}
    subprocess.run([BIN / "impasto", "migrate"], env=os.environ | environment, check=True)

    ended = subprocess.run(
        [BIN / "celery", "-A", "impasto.workers", "worker", "-P", "processes", "-c", "2"],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert (ended.returncode, f"worker: --pool processes: {POOLS}" in ended.stderr) == (1, True)
