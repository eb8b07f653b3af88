"""Mutated pictures and bombs, at full size: `make fuzz-pictures`, or `FUZZ="--bombs 0"` a part.

Ends with status 0 where nothing died, nothing was answered with 5xx and every bound was kept.
"""

import argparse
import itertools
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from impasto.shared.pictures.pool import Decoders
from tests.arrange.paths import BIN
from tests.arrange.processes import Api, children_of
from tests.fuzz import runs
from tests.fuzz.bombs import BOMBS
from tests.fuzz.runs import Verdict, Watch

SIDE = 10_000  # 100 megapixels, the most that is accepted by default


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=50_000, help="through the decoders")
    parser.add_argument("--http", type=int, default=2_000, help="to an API under gunicorn")
    parser.add_argument("--bombs", type=int, default=len(BOMBS), help="to that API, one by one")
    parser.add_argument("--only", default="", help="bombs with this in their name")
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    say(f'seed {seed}: again with make fuzz-pictures FUZZ="--seed {seed}"')
    verdicts = dict(_verdicts(arguments, seed))
    for name, verdict in verdicts.items():
        say(f"{name}: {verdict}")
    return int(any(verdict.faults for verdict in verdicts.values()))


def _verdicts(arguments: argparse.Namespace, seed: int) -> Iterator[tuple[str, Verdict]]:
    if arguments.pictures:
        with Decoders() as api, Decoders() as worker, Watch(lambda: api.pids) as watch:
            began = time.monotonic()
            verdict = runs.decode(api, worker, arguments.pictures, seed)
            say(f"{arguments.pictures} pictures in {time.monotonic() - began:.0f} s")
        verdict.memory_bytes = watch.memory_bytes
        runs.check_bounds(verdict)
        yield "decoders", verdict
    if not arguments.http and not arguments.bombs:
        return
    with _api() as (api, watch):
        if arguments.http:
            verdict = runs.post(api.port, arguments.http, seed)
            _close(api, watch, verdict)
            yield "http", verdict
        verdict = Verdict()
        chosen = [(name, bomb) for name, bomb in BOMBS.items() if arguments.only in name]
        for name, bomb in itertools.islice(chosen, arguments.bombs):
            say(runs.explode(api.port, name, bomb(SIDE), verdict))
        _close(api, watch, verdict)
        yield "bombs", verdict


@contextmanager
def _api() -> Iterator[tuple[Api, Watch]]:
    """An API under gunicorn, as it is deployed, over SQLite and a folder."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as home:
        environment = {"IMPASTO_HOME": home, "WEB_CONCURRENCY": "1"}
        migrate = [str(BIN / "impasto"), "migrate"]
        subprocess.run(migrate, env=os.environ | environment, check=True, stdout=subprocess.DEVNULL)
        with Api(environment) as api:
            servers = children_of(api.pid)
            with Watch(lambda: set[int]().union(*map(runs.children, servers))) as watch:
                yield api, watch
            if children_of(api.pid) != servers:
                raise AssertionError("the server's process was replaced")


def _close(api: Api, watch: Watch, verdict: Verdict) -> None:
    verdict.memory_bytes = watch.memory_bytes
    runs.check_bounds(verdict)
    if not api.answers():
        verdict.faults.append("the API does not answer any more")


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
