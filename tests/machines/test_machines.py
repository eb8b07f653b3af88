"""`make test-machines`, on rows that take a second."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.machines.__main__ import NotHereError, Row, Way, main, other_python, run, table

TESTS = """
import os
import pytest

@pytest.mark.parametrize("colour", ["dark red", "green"])
def test_is_green(colour):
    assert colour == "green", f"{colour} - no: {os.environ['SHADE']}"

@pytest.fixture
def missing():
    raise KeyError("missing")

def test_never_begins(missing):
    pass
"""


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    file = tmp_path / "test_colours.py"
    file.write_text(TESTS)
    return file


def row(tests: Path) -> Row:
    return Row("shade", lambda: Way(environment={"SHADE": "light"}), [str(tests)])


def test_a_row_says_its_command_and_names_what_is_red(tests: Path, tmp_path: Path) -> None:
    found = run(row(tests), logs=tmp_path)

    assert (found.status, found.summary) == (1, "1 failed, 1 passed, 1 error")
    assert [name.rpartition("::")[2] for name in found.red] == [
        "test_is_green[dark red]",
        "test_never_begins",
    ]
    assert found.command.startswith(f"SHADE=light {sys.executable} -m pytest ")
    assert "dark red - no: light" in (tmp_path / "shade.log").read_text()
    assert all(name in table([found]) for name in ("red ", found.command, *found.red))


def test_a_row_is_green_by_the_tests_that_were_chosen(tests: Path, tmp_path: Path) -> None:
    found = run(row(tests), ["-k", "test_is_green and not dark"], logs=tmp_path)

    assert (found.status, found.summary) == (0, "1 passed, 2 deselected")
    assert "green " in table([found])


def test_a_row_that_has_none_of_the_chosen_tests_is_not_red(tests: Path, tmp_path: Path) -> None:
    assert run(row(tests), ["-k", "blue"], logs=tmp_path).status is None


def test_a_row_without_tests_is_red(tests: Path, tmp_path: Path) -> None:
    tests.write_text("")
    assert run(row(tests), logs=tmp_path).status


def test_a_machine_that_cannot_be_had_is_said_and_is_not_red(tmp_path: Path) -> None:
    def nowhere() -> Way:
        raise NotHereError("there is none")

    found = run(Row("nowhere", nowhere), logs=tmp_path)

    assert (found.status, found.summary) == (None, "not here: there is none")


def test_a_machine_that_cannot_be_set_up_is_red(tmp_path: Path) -> None:
    def broken() -> Way:
        command = [sys.executable, "-c", "raise SystemExit('no space left')"]
        subprocess.run(command, capture_output=True, text=True, check=True)
        raise AssertionError

    found = run(Row("broken", broken), logs=tmp_path)

    assert (found.status, found.summary) == (1, "not set up: no space left")


def test_the_python_that_runs_it_has_no_row_of_its_own() -> None:
    with pytest.raises(NotHereError, match="runs all the other rows"):
        other_python("{}.{}".format(*sys.version_info))


def test_an_unknown_row_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["one-core", "two-cores"])
    told = capsys.readouterr().err
    assert "no row has two-cores in its name; there are busy, one-core" in " ".join(told.split())
