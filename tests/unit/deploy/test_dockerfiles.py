"""The Dockerfiles are clean, and name nothing that is not there. No image is built."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from importlib.util import find_spec

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.arrange.deployment import DOCKERFILES, Dockerfile, module_of, services
from tests.arrange.paths import BIN, ROOT

OURS = "impasto"
PARTS = {"services", "shared", "workers"}  # to which its links lead

each_dockerfile = pytest.mark.parametrize(
    "dockerfile",
    [Dockerfile.read(path) for path in DOCKERFILES],
    ids=[path.stem for path in DOCKERFILES],
)


def commands(dockerfile: Dockerfile) -> list[list[str]]:
    """What runs in the image, in any service."""
    built_from_it = [
        service
        for service in services().values()
        if service.get("build", {}).get("dockerfile", "").endswith(dockerfile.path.name)
    ]
    own = dockerfile.last("CMD").arguments
    return [service.get("command") or own for service in built_from_it]


def installed(extras: set[str]) -> set[str]:
    """The packages that Python finds where ours is installed with these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        line for extra in extras for line in project["optional-dependencies"][extra]
    ]
    pending = [(Requirement(line), "") for line in wanted]
    seen: set[tuple[str, str]] = set()
    while pending:
        requirement, of = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            pending += [(Requirement(line), extra) for line in requires(name) or []]
    names = {name for name, _ in seen}
    return {
        package
        for package, by in packages_distributions().items()
        if names & {canonicalize_name(each) for each in by}
    }


def test_there_is_an_image_for_each_side_of_the_queue() -> None:
    assert [path.stem for path in DOCKERFILES] == ["api", "worker"]


@each_dockerfile
def test_hadolint_finds_nothing(dockerfile: Dockerfile) -> None:
    linted = subprocess.run(
        [BIN / "hadolint", "--no-color", dockerfile.path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (linted.stdout, linted.stderr) == ("", "")


@each_dockerfile
def test_what_is_copied_exists_and_reaches_the_builder(dockerfile: Dockerfile) -> None:
    let_through = (ROOT / ".dockerignore").read_text().splitlines()

    for source in dockerfile.sources():
        assert (ROOT / source).exists()
        assert f"!{source}" in let_through


def test_nothing_reaches_the_builder_that_is_not_copied() -> None:
    ignored, *rules = re.findall(r"^[^#\n].*$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    let_through = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}

    assert ignored == "*"
    assert let_through == set().union(*(Dockerfile.read(path).sources() for path in DOCKERFILES))


@each_dockerfile
def test_what_is_installed_is_pinned_and_offered(dockerfile: Dockerfile) -> None:
    dependencies, ours = dockerfile.installs()
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert dependencies[:2] == ["--constraint", "constraints.txt"]
    assert dockerfile.extras() <= set(offered["optional-dependencies"])
    assert ours == ["--no-deps", "--force-reinstall", "."]


@each_dockerfile
def test_what_its_code_imports_is_installed(dockerfile: Dockerfile) -> None:
    graph = grimp.build_graph(OURS, include_external_packages=True)
    for left_out in PARTS - dockerfile.sources():  # `impasto up`, for one, runs in no image
        for module in {f"{OURS}.{left_out}", *graph.find_descendants(f"{OURS}.{left_out}")}:
            graph.remove_module(module)
    entries = {module_of(command) for command in commands(dockerfile)}
    reached = set().union(*(graph.find_upstream_modules(entry) for entry in entries))
    imported = {module for module in reached if graph.is_module_squashed(module)}

    assert not imported - set(sys.stdlib_module_names) - installed(dockerfile.extras())
    assert OURS in dockerfile.sources()


CLUSTER = """
import sys


class Image:
    def find_spec(self, name, path=None, target=None):
        if name in {withheld!r}:
            raise ModuleNotFoundError(f"the image has no {{name}}", name=name)


sys.meta_path.insert(0, Image())
from kombu import Connection
from impasto.shared.database import open_database
from impasto.shared.storage import open_storage

Connection("redis://valkey/0").get_transport_cls()
open_database("postgresql+psycopg://impasto@postgres/impasto").close()
open_storage("s3://impasto")
"""


@each_dockerfile
def test_what_it_loads_to_reach_the_stores_is_installed(dockerfile: Dockerfile) -> None:
    withheld = set(packages_distributions()) - installed(dockerfile.extras()) - {OURS}
    code = CLUSTER.format(withheld=withheld)

    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"AWS_DEFAULT_REGION": "us-east-1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr


@each_dockerfile
def test_what_runs_is_in_the_image(dockerfile: Dockerfile) -> None:
    command = dockerfile.last("CMD").arguments
    module = module_of(command)
    files = [argument for argument in command if argument.endswith(".py")]

    assert find_spec(module) is not None
    assert {module.partition(".")[0], *files} <= dockerfile.sources()


@each_dockerfile
def test_the_image_runs_as_a_user_without_rights_who_has_a_home(dockerfile: Dockerfile) -> None:
    uid, _, gid = dockerfile.last("USER").text.partition(":")
    user = dockerfile.last("RUN").text  # torch and others ask who they are, and where they live

    assert int(uid) > 0
    assert int(gid) > 0
    assert user == f"useradd --uid {uid} --user-group --create-home impasto"


@each_dockerfile
def test_the_image_says_what_it_is_and_how_it_is(dockerfile: Dockerfile) -> None:
    assert f'image.title="impasto-{dockerfile.path.stem}"' in dockerfile.last("LABEL").text
    assert dockerfile.last("HEALTHCHECK").text.startswith("CMD [")


@each_dockerfile
def test_both_stages_start_from_one_release_of_python_that_we_support(
    dockerfile: Dockerfile,
) -> None:
    bases = {dockerfile.build[0].arguments[0], dockerfile.last("FROM").arguments[0]}
    (base,) = bases

    assert re.fullmatch(r"python:3\.1[1-4]-slim-\w+", base)
