"""The tests as other machines would run them: `make test-machines`, or some rows of it by name.

`make test-machines MACHINES="one-core avx2"` runs the rows with these words in their names, and
`-k EXPRESSION` those of their tests alone. Ends with status 0 where no row was red.
"""

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from tests.arrange.paths import ROOT

LOGS = ROOT / "out" / "machines"
ENGINE = "tests/unit/workers/engine"
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
CANNOT_TRAP = 77  # see zen4.c
NO_TESTS = 5  # pytest's status where an expression selects none
BUSY = "while True: pass"
VERDICT = re.compile(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s")
RED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$")


class NotHereError(Exception):
    """This machine cannot be that one."""


@dataclass(frozen=True)
class Way:
    """How pytest is run: its interpreter, what stands before it, and what is set for it."""

    python: str = sys.executable
    before: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    neighbours: int = 0  # processes that do nothing but use a core each


class Machine(Protocol):
    def __call__(self) -> Way:
        """Raises NotHereError."""


@dataclass(frozen=True)
class Row:
    name: str
    machine: Machine
    tests: Sequence[str] = ()  # all of them


@dataclass(frozen=True)
class Found:
    """What a row gave. status: pytest's, None if no test was run."""

    row: Row
    command: str
    seconds: float
    status: int | None
    summary: str
    red: Sequence[str] = ()


def with_settings(**environment: str) -> Way:
    return Way(environment=environment)


def one_core() -> Way:
    if not (taskset := shutil.which("taskset")):
        raise NotHereError("there is no `taskset`")
    return Way(before=(taskset, "-c", "0"))


def busy() -> Way:
    return Way(neighbours=os.cpu_count() or 1)


def zen4() -> Way:
    """A processor that is not Intel's, for all that libraries can see."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise NotHereError("only Linux on x86-64 traps CPUID")
    if not (compiler := shutil.which("cc")):
        raise NotHereError("there is no C compiler")
    library = LOGS / "zen4.so"
    source = str(Path(__file__).with_name("zen4.c"))
    build = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), source]
    subprocess.run(build, capture_output=True, text=True, check=True)
    preloaded = {"LD_PRELOAD": str(library)}
    tried = subprocess.run(["true"], env=os.environ | preloaded, check=False)
    if tried.returncode == CANNOT_TRAP:
        raise NotHereError("this processor or its hypervisor does not let CPUID be trapped")
    return Way(environment=preloaded, options=("-p", "no:faulthandler"))  # whose signal it needs


def other_python(version: str) -> Way:
    """An environment of its own for another version of Python."""
    if version == platform.python_version().rpartition(".")[0]:
        raise NotHereError("it runs all the other rows")
    found = next(filter(partial(_answers, version), _pythons(version)), None)
    if found is None:
        raise NotHereError("it is not installed")
    venv = f".venv-{version}"
    make = ["make", f"VENV={venv}", f"PYTHON={found}", f"{venv}/ready-dev"]
    subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    return Way(python=str(ROOT / venv / "bin" / "python"))


def _pythons(version: str) -> Iterator[str]:
    """Where it may be: on the path, or among pyenv's, whose commands need not answer there."""
    if on_path := shutil.which(f"python{version}"):
        yield on_path
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, pyenv.glob(f"versions/{version}.*/bin/python3"))


def _answers(version: str, python: str) -> bool:
    told = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
    return told.returncode == 0 and told.stdout.startswith(f"Python {version}.")


ROWS = [
    Row("busy", busy),
    Row("one-core", one_core),
    Row("one-thread", partial(with_settings, OMP_NUM_THREADS="1")),
    *(Row(f"python-{version}", partial(other_python, version)) for version in VERSIONS),
    # torch's own loops
    Row("aten-default", partial(with_settings, ATEN_CPU_CAPABILITY="default"), [ENGINE]),
    Row("aten-avx2", partial(with_settings, ATEN_CPU_CAPABILITY="avx2"), [ENGINE]),
    # convolutions and products in bfloat16
    Row("onednn-avx2", partial(with_settings, ONEDNN_MAX_CPU_ISA="AVX2"), [ENGINE]),
    Row("onednn-avx512", partial(with_settings, ONEDNN_MAX_CPU_ISA="AVX512_CORE"), [ENGINE]),
    Row("onednn-bf16", partial(with_settings, ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16"), [ENGINE]),
    # products in float32: MKL's code for old processors, and what it takes for one not Intel's
    Row("mkl-sse4", partial(with_settings, MKL_ENABLE_INSTRUCTIONS="SSE4_2"), [ENGINE]),
    Row("mkl-compatible", partial(with_settings, MKL_CBWR="COMPATIBLE"), [ENGINE]),
    Row("zen4", zen4, [ENGINE]),
]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="machines", description=__doc__.partition("\n")[0])
    names = ", ".join(row.name for row in ROWS)
    parser.add_argument("words", nargs="*", help=f"of the names of rows; all by default: {names}")
    parser.add_argument("-k", dest="expression", default="", help="of tests, as pytest takes it")
    asked = parser.parse_args(arguments)
    if unknown := [word for word in asked.words if not any(word in row.name for row in ROWS)]:
        parser.error(f"no row has {', '.join(unknown)} in its name; there are {names}")
    LOGS.mkdir(parents=True, exist_ok=True)
    rows = [r for r in ROWS if not asked.words or any(word in r.name for word in asked.words)]
    options = ["-k", asked.expression] if asked.expression else []
    found = []
    for row in rows:
        print(f"{row.name} ...", flush=True)
        found.append(run(row, options))
        print(told(found[-1]), flush=True)
    print(table(found))
    return 1 if any(each.status for each in found) else 0


def run(row: Row, options: Sequence[str] = (), logs: Path = LOGS) -> Found:
    """One row; what pytest wrote lies in a file of its name."""
    try:
        way = row.machine()
    except NotHereError as error:
        return Found(row, "", 0, None, f"not here: {error}")
    except subprocess.CalledProcessError as error:
        why = (error.stderr or "").strip()[-200:]
        return Found(row, shlex.join(error.cmd), 0, error.returncode, f"not set up: {why}")
    own = [f"{name}={value}" for name, value in way.environment.items()]
    command = [*way.before, way.python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rfE"]
    command += [*way.options, *options, *row.tests]
    log, began = logs / f"{row.name}.log", time.monotonic()
    with neighbours(way.neighbours), log.open("w") as file:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | way.environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if status == NO_TESTS and options:
        status = None
    lines = log.read_text(errors="replace").splitlines()
    verdicts = [match[1] for line in lines if (match := VERDICT.match(line))]
    return Found(
        row,
        shlex.join([*own, *command]),
        time.monotonic() - began,
        status,
        verdicts[-1] if verdicts else f"ended with status {status}, see {log}",
        [match[1] for line in lines if (match := RED.match(line))],
    )


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def told(found: Found) -> str:
    """A line, and one for each red test."""
    verdict = "-" if found.status is None else "red" if found.status else "green"
    line = f"{found.row.name:18} {verdict:6} {found.seconds:6.0f} s  {found.summary}"
    return "\n".join([line, *(f"{'':18} {name}" for name in found.red)])


def table(found: Sequence[Found]) -> str:
    commands = [f"{each.row.name:18} {each.command}" for each in found if each.command]
    return "\n".join(["", *commands, "", *map(told, found)])


if __name__ == "__main__":
    sys.exit(main())
