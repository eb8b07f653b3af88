"""All of chaos, on servers of its own: `make chaos`, or a part of it: `make chaos CHAOS="storm"`.

Ends with status 0 where every promise was kept and every mutant was caught.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos import paintings as painted
from tests.chaos.cancels import cancels
from tests.chaos.controls import CONTROLS, check
from tests.chaos.drains import drains
from tests.chaos.paintings import paintings
from tests.chaos.processes import Zygotes
from tests.chaos.storm import STORM, Storm
from tests.chaos.verdict import Verdict
from tests.chaos.world import World, world
from tests.servers.postgres import Postgres
from tests.servers.swift import Swift
from tests.servers.valkey import Valkey

CONTROLS_AT_ONCE = 4  # they mostly wait for leases


@dataclass(frozen=True)
class Run:
    """What the parts of a run share."""

    zygotes: Zygotes
    postgres: Postgres
    valkey: Valkey
    swift: Swift
    seed: int

    def world(self, **options: object) -> contextlib.AbstractContextManager[World]:
        return world(self.zygotes, self.postgres, self.valkey, self.swift, **options)


def main() -> int:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; all by default")
    parser.add_argument("--seed", type=int, default=None, help="of what happens when")
    parser.add_argument("--json", type=Path, default=Path("out/chaos.json"), help="the figures")
    parser.add_argument("--logs", type=Path, help="keep what the processes wrote in this folder")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    began = time.monotonic()
    say(f'seed {seed}: again with make chaos CHAOS="--seed {seed}"')
    verdicts: dict[str, Verdict] = {}
    with _run(seed, arguments.logs) as run:
        say(f"servers and zygote stand after {time.monotonic() - began:.0f} s")
        for name in arguments.parts or PARTS:
            since = time.monotonic()
            for part, verdict in PARTS[name](run):
                verdicts[part] = verdict
                say(f"{part}: {verdict} ({time.monotonic() - since:.0f} s)")
        seconds = time.monotonic() - began
        _print(verdicts, seconds)
        _write(arguments.json, verdicts, seed, seconds)
    return int(any(verdict.breaches for verdict in verdicts.values()))


def _storm(run: Run) -> Iterator[tuple[str, Verdict]]:
    with run.world() as here:
        storm = Storm(here, STORM, run.seed, postgres=run.postgres, valkey=run.valkey, say=say)
        yield "storm", storm.run()


def _paintings(run: Run) -> Iterator[tuple[str, Verdict]]:
    with run.world(is_chain=False, **painted.SETTINGS) as here:
        yield "paintings", paintings(here, 30, run.seed)


def _drains(run: Run) -> Iterator[tuple[str, Verdict]]:
    """Those behind an S3 that hangs in a world of their own, at the same time."""
    asked = (
        ("drains", {"SIGTERM": 36, "SIGTERM while it loads": 10}, 60),
        ("drains while S3 hangs", {"SIGTERM while S3 hangs": 4}, 8),
        ("drains, cold and soft", {"SIGQUIT": 3, "SIGTERM, SIGQUIT": 3}, 24),
    )

    def drain(counts: Mapping[str, int], count: int) -> Verdict:
        with run.world() as here:
            return drains(here, counts, run.seed, count=count)

    with ThreadPoolExecutor(len(asked)) as pool:
        futures = [(name, pool.submit(drain, counts, count)) for name, counts, count in asked]
        for name, future in futures:
            yield name, future.result()


def _cancels(run: Run) -> Iterator[tuple[str, Verdict]]:
    with run.world() as here:
        yield "cancels", cancels(here, 200, run.seed)


def _controls(run: Run) -> Iterator[tuple[str, Verdict]]:
    with ThreadPoolExecutor(CONTROLS_AT_ONCE) as pool:
        futures = [(each, pool.submit(check, each, run.world, run.seed)) for each in CONTROLS]
        for control, future in futures:
            yield control.name, future.result()


PARTS: Mapping[str, Callable[[Run], Iterator[tuple[str, Verdict]]]] = {
    "storm": _storm,
    "paintings": _paintings,
    "drains": _drains,
    "cancels": _cancels,
    "controls": _controls,
}


@contextlib.contextmanager
def _run(seed: int, logs: Path | None) -> Iterator[Run]:
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        if logs:
            logs.mkdir(parents=True, exist_ok=True)
        folder = logs or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        opened = [Zygotes(folder), Postgres(), Valkey(), Swift()]
        started = [pool.submit(each.__enter__) for each in opened]
        for each, future in zip(opened, started, strict=True):
            future.result()
            stack.push(each)
        os.environ.update(opened[-1].environment())  # for the storage that we look into
        yield Run(*opened, seed)


def say(line: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S}  {line}", flush=True)


def _print(verdicts: Mapping[str, Verdict], seconds: float) -> None:
    print()
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict}")
        for figure, value in verdict.figures.items():
            print(f"    {figure:32} {value}")
        for breach in verdict.breaches[:20]:
            print(f"  ! {breach}")
    print(f"\n{seconds:.0f} s")


def _write(path: Path, verdicts: Mapping[str, Verdict], seed: int, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "seconds": round(seconds, 1),
        "parts": {
            name: {"figures": verdict.figures, "breaches": verdict.breaches}
            for name, verdict in verdicts.items()
        },
    }
    path.write_text(json.dumps(told, indent=2) + "\n")
    print(f"figures in {path}")


if __name__ == "__main__":
    sys.exit(main())
