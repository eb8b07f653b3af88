"""What the README and the pages made of the code say is so."""

import re
import shlex
from pathlib import Path

import pytest

from impasto.shared.settings import PREFIX, Settings
from impasto.shared.spec import JobSpec
from tests.arrange.paths import ROOT
from tests.reference import pages

README = (ROOT / "README.md").read_text()
PAGES = pages()
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("file", PAGES, ids=[file.name for file in PAGES])
def test_a_page_is_what_the_code_says(file: Path) -> None:
    assert file.read_text() == PAGES[file], "make docs writes it anew"


def test_the_readme_names_no_setting_that_is_not_there() -> None:
    named = set(re.findall(rf"{PREFIX}([A-Z_]+)", README))

    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_the_readme_names_only_fields_of_the_spec_in_its_table() -> None:
    table = README.split("## The picture")[1].split("##")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }

    assert named
    assert named <= set(JobSpec.model_fields)


def test_the_readme_names_only_targets_of_the_makefile() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)", README))

    assert named >= {"demo", "test", "lint"}
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_the_readme_links_only_to_what_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)

    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_ci_runs_the_commands_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    made = [shlex.split(line)[1] for line in lines if line.startswith("make ")]

    assert sorted(made) == ["lint", "test"]
