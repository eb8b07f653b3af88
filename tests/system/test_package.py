"""The package as installed: one name, beside an app with packages of our folders' names."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arrange.paths import ROOT

FOLDERS = ("services", "shared", "workers")
BUILT_FROM = ("impasto", *FOLDERS, "pyproject.toml", "README.md", "LICENSE")
SERVER_SIDE = {"alembic", "celery", "flask", "numpy", "redis", "sqlalchemy", "torch"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of packages that a wheel of ours was installed into, and nothing else."""
    source, site = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    make = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run(make, cwd=source, check=True)
    (wheel,) = (source / "dist").iterdir()
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], check=True)
    return site


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app that has such packages of its own."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"its = {name!r}\n")
    return tmp_path


def run(code: str, app: Path, installed: Path) -> str:
    return subprocess.check_output(
        [sys.executable, "-c", code], cwd=app, env={"PYTHONPATH": str(installed)}, text=True
    )


def test_it_takes_one_name(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}

    assert names == {"impasto", "bin"}
    for name in FOLDERS:
        assert (installed / "impasto" / name / "__init__.py").is_file()
        assert not (installed / "impasto" / name).is_symlink()
    assert (installed / "impasto" / "py.typed").is_file()
    assert list(installed.glob("impasto/shared/database/migrations/*.mako"))


def test_an_app_keeps_its_own_packages(app: Path, installed: Path) -> None:
    code = """
import services, shared, workers
from impasto import Client, JobSpec
import impasto.services.embedded, impasto.services.cli, impasto.workers.engine.render
assert [each.its for each in (services, shared, workers)] == ["services", "shared", "workers"]
print(Client.__module__, impasto.__file__)
"""
    told = run(code, app, installed)

    assert told.split() == ["impasto.services.client.client", f"{installed}/impasto/__init__.py"]


def test_a_client_app_imports_nothing_of_the_servers(app: Path, installed: Path) -> None:
    code = "import sys; from impasto import Client; print(*{m.split('.')[0] for m in sys.modules})"

    assert not SERVER_SIDE & set(run(code, app, installed).split())


def test_a_name_that_is_not_there_is_reported(app: Path, installed: Path) -> None:
    code = """
import impasto
assert "Client" in dir(impasto)
try:
    impasto.Clients
except AttributeError as error:
    print(error)
"""
    assert run(code, app, installed) == "module 'impasto' has no attribute 'Clients'\n"
