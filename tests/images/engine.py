"""A Docker engine, and docker-compose.yml started on it from a copy of the checkout."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.arrange.deployment import SECRETS
from tests.arrange.paths import ROOT

NEEDS = (
    "test-images needs a Docker engine 25 or newer with BuildKit, and Compose 2.24 or newer:"
    " DOCKER_HOST names the engine, DOCKER the command (default: docker). It needs 10 GB of disk,"
    " and the base image of the Dockerfiles; pip's index as PIP_CONFIG_FILE says."
)
STORES = "tests/images/docker-compose.stores.yml"
COPIED = (
    *(".dockerignore", ".env.example", "constraints.txt", "deploy", "docker-compose.yml"),
    *("pyproject.toml", "README.md", "impasto", "services", "shared", "workers", "samples"),
    *("tests/images", "tests/servers"),
)


class NoEngine(Exception):
    """There is no engine that could build and run anything; the message says what is needed."""


class CommandFailed(AssertionError):
    """A command ended otherwise than it should; the message ends with what it wrote."""


class Stack:
    """One project of Compose, in a folder like a fresh checkout; `sh` runs what a guide says."""

    def __init__(self, folder: Path, project: str, port: int) -> None:
        self.folder, self.project, self.port = folder, project, port
        self.url = f"http://127.0.0.1:{port}"
        for name in COPIED:
            source, target = ROOT / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, target, symlinks=True, ignore=ignored)
            else:
                shutil.copy(source, target)
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        docker = shutil.which(shlex.split(command())[0]) or command()
        rest = shlex.join(shlex.split(command())[1:])
        shim = bin_folder / "docker"
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(docker)} {rest} "$@"\n')
        shim.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(
                [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
            ),
            "COMPOSE_PROJECT_NAME": project,
            "COMPOSE_FILE": f"docker-compose.yml:{STORES}",
            "COMPOSE_PROGRESS": "plain",
            "IMPASTO_API_URL": self.url,
        }

    def sh(
        self,
        script: str,
        *,
        fails: bool = False,
        variables: Mapping[str, str] | None = None,
        seconds: float = 900,
    ) -> str:
        """What a script of the shell writes; it must succeed or, if so said, fail."""
        ended = subprocess.run(
            ["sh", "-ec", script],
            cwd=self.folder,
            env=self.environment | dict(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=seconds,
            check=False,
        )
        if (ended.returncode != 0) is not fails:
            tail = "\n".join(ended.stdout.splitlines()[-15:])
            raise CommandFailed(f"status {ended.returncode} of: {script.strip()}\n{tail}")
        return ended.stdout

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows of the service's containers, or of all, stopped ones too."""
        labels = f"--filter label=com.docker.compose.project={self.project}"
        if service:
            labels += f" --filter label=com.docker.compose.service={service}"
        ids = self.sh(f"docker ps --all --quiet --no-trunc {labels}").split()
        found = json.loads(self.sh(f"docker inspect {' '.join(ids)}")) if ids else []
        return sorted(found, key=lambda container: container["Name"])

    def container(self, service: str) -> dict[str, Any]:
        (container,) = self.containers(service)
        return container

    def inside(self, container: Mapping[str, Any], script: str) -> str:
        """What a script writes that runs in a container; it must succeed."""
        return self.sh(f"docker exec {container['Id']} sh -c {shlex.quote(script)}")

    def image(self, service: str) -> str:
        return self.containers(service)[0]["Config"]["Image"]

    def sql(self, query: str, **values: str) -> str:
        """What the stack's own Postgres answers; `:'name'` stands for a value."""
        options = [
            "--username=impasto",
            "--dbname=impasto",
            "--tuples-only",
            "--no-align",
            "--quiet",
        ]
        options += [
            f"--set={name}={value}" for name, value in {"ON_ERROR_STOP": "1", **values}.items()
        ]
        psql = f"docker compose exec -T postgres psql {shlex.join(options)}"
        return self.sh(f"printf %s {shlex.quote(query)} | {psql}").strip()

    def log(self, service: str) -> str:
        return self.sh(f"docker compose logs --no-color --no-log-prefix {service}")

    def clear(self) -> None:
        """Remove containers, networks and volumes; the images stay, for the next time."""
        secrets = dict.fromkeys(SECRETS, "0")  # asked for, though nothing starts
        self.sh(
            "docker compose --profile gpu down --volumes --remove-orphans --timeout 5",
            variables=secrets,
        )


def command() -> str:
    return os.environ.get("DOCKER", "docker")


def versions() -> str:
    """The engine's and Compose's. Raises NoEngine where there is none."""
    asked = (["version", "--format", "{{.Server.Version}}"], ["compose", "version", "--short"])
    told = []
    for arguments in asked:
        try:
            ended = subprocess.run(
                [*shlex.split(command()), *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        except OSError as error:
            raise NoEngine(f"{command()}: {error}. {NEEDS}") from None
        if ended.returncode:
            raise NoEngine(f"{' '.join([command(), *arguments])}: {ended.stderr.strip()}. {NEEDS}")
        told.append(ended.stdout.strip())
    return "engine {}, Compose {}".format(*told)
