"""openapi.json as other tools use it: linters, and clients that generators make of it.

`make test` brings the tools into .cache/clients; without them these tests are skipped, in CI red.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from impasto.services.client import Client
from impasto.services.embedded import Embedded
from impasto.shared import object_keys
from impasto.shared.pictures.codec import MEDIA_TYPES
from impasto.shared.settings import Settings
from tests.arrange.paths import BIN, ROOT
from tests.arrange.pictures import paint

OURS = ROOT / "tests" / "clients"
TOOLS = ROOT / ".cache" / "clients"
MODULES = TOOLS / "node_modules"

# Of openapi-python-client: pictures are bytes, whatever their format; nothing is to be formatted.
BYTES = "application/octet-stream"
GENERATOR = {
    "content_type_overrides": dict.fromkeys({*MEDIA_TYPES, *object_keys.SUFFIXES}, BYTES),
    "post_hooks": [],
}

Run = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    if not (TOOLS / "ready").exists():
        missing = "the generators are not there: `make test` brings them"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=0, threads=1)
    with Embedded(settings) as service:
        yield service


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, service: Embedded) -> Path:
    """A folder with the document, what we wrote for it, and two pictures."""
    folder = tmp_path_factory.mktemp("clients")
    shutil.copytree(OURS, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(MODULES)
    published = httpx.get(f"{service.url}/openapi.json", timeout=30)
    (folder / "openapi.json").write_bytes(published.content)
    (folder / "generator.yaml").write_text(json.dumps(GENERATOR))  # JSON is YAML, too
    for seed, name in enumerate(["content.png", "style.png"], start=400):
        (folder / name).write_bytes(paint(seed))
    return folder


@pytest.fixture
def run(workplace: Path) -> Run:
    """`run(program, *arguments)`: its standard output, if it ends well."""

    def run(*command: str | Path, **environment: str) -> str:
        quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
        done = subprocess.run(
            command,
            cwd=workplace,
            env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **quiet, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def tool(name: str) -> tuple[str, Path]:
    """A program of a package of npm's, as a command."""
    return "node", MODULES / ".bin" / name


def test_spectral_finds_nothing(run: Run) -> None:
    rules = ("--ruleset", "spectral.yaml", "--fail-severity", "hint")
    run(*tool("spectral"), "lint", "openapi.json", *rules)


def test_redocly_finds_nothing(run: Run) -> None:
    run(*tool("redocly"), "lint", "openapi.json", "--config", "redocly.yaml")


def test_a_generated_client_in_python_does_a_whole_job(run: Run, service: Embedded) -> None:
    python = TOOLS / "python" / "bin"
    run(
        *(python / "openapi-python-client", "generate", "--path", "openapi.json"),
        *("--output-path", "impasto_api", "--meta", "none", "--config", "generator.yaml"),
        "--fail-on-warning",
    )
    seen = run(python / "python", "whole_job.py", service.url, "content.png", "style.png")
    check(json.loads(seen), service)


def test_a_generated_client_in_typescript_does_a_whole_job(run: Run, service: Embedded) -> None:
    run(*tool("openapi-typescript"), "openapi.json", "--output", "schema.d.ts")
    run(*tool("tsc"))
    seen = run("node", "whole_job.ts", service.url, "content.png", "style.png")
    check(json.loads(seen), service)


def check(seen: dict[str, Any], service: Embedded) -> None:
    """What a generated client saw is what ours sees."""
    with Client(service.url) as client:
        job = client.job(seen["job"])
        result = job.result()
        assert seen == {
            "refused": ["invalid_spec", "size"],
            "job": job.id,
            "listed": seen["listed"],
            "warned": [],
            "seed": 2**53 - 1,
            "style": object_keys.digest(paint(401)),
            "sha256": object_keys.digest(result),
            "result": result.hex(),
            "losses": job.losses(),
        }
        assert job.id in seen["listed"]
        assert seen["losses"].startswith("iteration,total,content,style,tv")
