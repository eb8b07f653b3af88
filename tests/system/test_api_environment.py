"""The API's image without Docker: what its Dockerfile installs has no torch, and serves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from impasto.services.client import Client
from tests.arrange.deployment import DOCKERFILES, Dockerfile, module_of, services
from tests.arrange.paths import BIN, ROOT
from tests.arrange.processes import Process, is_ready
from tests.servers.server import LOCALHOST

DOCKERFILE = Dockerfile.read(next(path for path in DOCKERFILES if path.stem == "api"))
CMD = DOCKERFILE.last("CMD").arguments
COMMANDS = {
    name: service.get("command") or CMD
    for name, service in services().items()
    if service.get("build", {}).get("dockerfile", "").endswith(DOCKERFILE.path.name)
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile makes of an empty folder: `src`, `venv`, and the working folder `app`."""
    folder = tmp_path_factory.mktemp("image")
    for stage, place in ((DOCKERFILE.build, folder / "src"), (DOCKERFILE.image, folder / "app")):
        for instruction in stage:
            match instruction.word, instruction.arguments:
                case "COPY", [*sources, _] if "from" not in instruction.options:
                    for source in sources:
                        copy(ROOT / source, place / source)
                case "RUN", ["python", "-m", "venv", _]:
                    run(sys.executable, "-m", "venv", folder / "venv")
                case "RUN", ["pip", "install", *arguments]:
                    install(folder / "venv", arguments, cwd=place)
    return folder


@pytest.fixture(scope="module")
def api(image: Path) -> Iterator["Api"]:
    run(image / "venv" / "bin" / "impasto", "migrate", env=os.environ | home(image))
    with Api(image) as api:
        yield api


class Api(Process):
    """The image's command, over a SQLite file and a folder."""

    def __init__(self, image: Path) -> None:
        super().__init__(home(image))
        executable, *arguments = CMD
        arguments[arguments.index("--bind") + 1] = f"{LOCALHOST}:{self.port}"
        self.url = f"http://{LOCALHOST}:{self.port}"
        self.arguments = [
            *("sh", "-c", 'cd "$0" && exec "$@"', str(image / "app")),
            *(str(image / "venv" / "bin" / executable), *arguments),
        ]

    def answers(self) -> bool:
        return is_ready(self.url)


def home(image: Path) -> dict[str, str]:
    return {"IMPASTO_HOME": str(image / "home")}


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


def install(venv: Path, arguments: list[str], cwd: Path) -> None:
    """What `pip install` does, by uv where there is one."""
    python = venv / "bin" / "python"
    if uv := shutil.which("uv", path=f"{BIN}{os.pathsep}{os.environ['PATH']}"):
        run(uv, "pip", "install", "--python", python, *arguments, cwd=cwd)
    else:
        run(python, "-m", "pip", "install", *arguments, cwd=cwd)


def run(*command: str | Path, **options: object) -> None:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout


def test_the_environment_has_no_torch(image: Path) -> None:
    imported = subprocess.run(
        [image / "venv" / "bin" / "python", "-c", "import torch"],
        cwd=image,
        capture_output=True,
        text=True,
        check=False,
    )

    assert imported.returncode == 1
    assert "No module named 'torch'" in imported.stderr


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_what_the_image_is_for_can_be_imported_there(name: str, image: Path) -> None:
    module = module_of(COMMANDS[name])

    run(image / "venv" / "bin" / "python", "-W", "error", "-c", f"import {module}", cwd=image)


def test_the_api_takes_a_job_there(api: Api, pictures: tuple[Path, Path]) -> None:
    with Client(api.url) as client:
        job = client.render(*pictures, size=64)

        assert job.status().status == "queued"
        assert [each.id for each in client.jobs()] == [job.id]
