"""What is deployed, read: the Dockerfiles, and docker-compose.yml as Compose understands it."""

import json
import os
import re
import runpy
import shlex
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tests.arrange.paths import BIN, ROOT

DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
EXAMPLE = ROOT / ".env.example"
GUIDE = ROOT / "docs" / "deploy.md"
SECRETS = re.findall(r"^(\w+)=$", EXAMPLE.read_text(), re.MULTILINE)  # what it leaves empty
FILLED = dict.fromkeys(SECRETS, "0123abcd")


@dataclass(frozen=True)
class Instruction:
    """`WORD --option=value ... text`, its lines joined."""

    word: str
    options: dict[str, str]
    text: str

    @property
    def arguments(self) -> list[str]:
        return json.loads(self.text) if self.text.startswith("[") else shlex.split(self.text)


@dataclass(frozen=True)
class Dockerfile:
    """Two stages: one builds a virtual environment, the other is the image."""

    path: Path
    build: list[Instruction]
    image: list[Instruction]

    @classmethod
    def read(cls, path: Path) -> "Dockerfile":
        text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
        lines = text.replace("\\\n", " ").splitlines()
        instructions = [_instruction(line) for line in lines if line.strip()]
        image = max(i for i, each in enumerate(instructions) if each.word == "FROM")
        return cls(path, instructions[:image], instructions[image:])

    def sources(self) -> set[str]:
        """What it copies from the checkout."""
        copies = [each for each in self.build + self.image if each.word == "COPY"]
        own = [each.arguments[:-1] for each in copies if "from" not in each.options]
        return {source for sources in own for source in sources}

    def installs(self) -> list[list[str]]:
        """The arguments of its `pip install` commands, in order."""
        runs = [each.arguments for each in self.build if each.word == "RUN"]
        return [run[2:] for run in runs if run[:2] == ["pip", "install"]]

    def extras(self) -> set[str]:
        """Those of ours that it installs."""
        return set(re.fullmatch(r"\.\[(.+)\]", self.installs()[0][-1])[1].split(","))

    def last(self, word: str) -> Instruction:
        """The image's last instruction of a kind, which is the one that counts."""
        return [each for each in self.image if each.word == word][-1]


def compose(
    *arguments: str, variables: dict[str, str], env_file: Path = EXAMPLE
) -> subprocess.CompletedProcess[str]:
    """What Compose answers when the environment has these variables, and none of the user's."""
    outside = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [BIN / "docker-compose", "--env-file", env_file, *arguments],
        cwd=ROOT,
        env=outside | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@cache
def stack() -> dict[str, Any]:
    """docker-compose.yml with every secret filled in, and the services of every profile."""
    answer = compose("--profile", "*", "config", "--format", "json", variables=FILLED)
    return json.loads(answer.stdout)


def services() -> dict[str, dict[str, Any]]:
    return stack()["services"]


def dockerfile_of(service: str) -> Dockerfile | None:
    """What the service's image is built from, if it is ours."""
    build = services()[service].get("build")
    return Dockerfile.read(ROOT / build["dockerfile"]) if build else None


def guide(language: str, about: str) -> str:
    """The guide's block of code that says something."""
    blocks = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (block,) = [block for block in blocks if about in block]
    return block


def module_of(command: list[str]) -> str:
    """The module of ours that a command runs."""
    match command:
        case ["python", "-m", package, *_]:
            return f"{package}.__main__"
        case ["celery", "-A", package, *_]:
            return f"{package}.celery"
        case ["gunicorn", "--config", path, *_]:
            return runpy.run_path(str(ROOT / path))["wsgi_app"].partition(":")[0]
    scripts = distribution("impasto").entry_points
    return next(script.module for script in scripts if script.name == command[0])


def _instruction(line: str) -> Instruction:
    word, rest = line.strip().split(maxsplit=1)
    options = {}
    while option := re.match(r"--([\w-]+)=(\S+)\s+", rest):
        options[option[1]] = option[2]
        rest = rest[option.end() :]
    return Instruction(word, options, rest)
