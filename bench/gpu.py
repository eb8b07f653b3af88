"""All that wants a GPU, in one call of at most eight minutes: `make gpu-check`.

The tests that only a GPU can run, then the engine's measurements, each part in a process of its own
and with a limit of time, so that one that fails leaves the others theirs. Needs no network: the
weights come with the package that carries them.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"
TESTS = "tests/unit/workers/engine/test_cuda.py"


class Part(NamedTuple):
    name: str
    arguments: Sequence[str]
    limit_seconds: float


def parts(device: str, size: int, folder: Path, more: Sequence[str]) -> list[Part]:
    """size: of the long side, px; some is measured at half of it, too. folder: a file for each."""
    today = datetime.now(UTC).date().isoformat()
    out = lambda side: str(folder / f"{today}-gpu-{side}.json")  # noqa: E731
    engine = ("-W", "ignore", "-m", "bench.engine", "--device", device, *more)
    return [
        Part("tests", ("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", TESTS), 120),
        *(
            Part(f"{name}-{side}", (*engine, name, "--size", str(side), "--out", out(side)), limit)
            for name, side, limit in (
                ("steps", size, 60),
                ("thousand", size, 60),
                ("default", size, 60),
                ("batch", size, 60),
                ("snapshots", size, 60),
                ("start", size, 30),
                ("steps", size // 2, 60),
                ("batch", size // 2, 60),
                ("company", size // 2, 40),
                ("memory", size // 2, 60),
                ("strips", size // 2, 40),
            )
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="PART", help="such as batch-512; default: all")
    parser.add_argument("--device", default="cuda", help="or cuda:N (default cuda)")
    parser.add_argument("--size", type=int, default=512, help="long side, in px (default 512)")
    parser.add_argument("--pictures", type=Path, help="a folder of other photographs and paintings")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="a folder (default bench/results)"
    )
    parser.add_argument("--trial", action="store_true", help="briefly, to see that it runs")
    parser.add_argument("--seconds", type=float, default=480, help="for all of it (default 480)")
    asked = parser.parse_args()
    more = ["--trial"] * asked.trial
    more += ["--pictures", str(asked.pictures)] if asked.pictures else []
    known = {part.name: part for part in parts(asked.device, asked.size, asked.out, more)}
    if unknown := set(asked.names) - set(known):
        parser.error(f"no part is called {unknown.pop()}; accepted: {', '.join(known)}")
    until = time.monotonic() + asked.seconds
    states = {}
    for part in (known[name] for name in asked.names or known):
        began = time.monotonic()
        states[part.name] = _run(part, until)
        print(f"# {part.name}: {states[part.name]}, {time.monotonic() - began:.0f} s", flush=True)
    failed = [name for name, state in states.items() if state != "done"]
    if failed:
        sys.exit(f"not done: {', '.join(failed)}")


def _run(part: Part, until: float) -> str:
    left = min(part.limit_seconds, until - time.monotonic())
    if left <= 0:
        return "no time left"
    try:
        done = subprocess.run([sys.executable, *part.arguments], timeout=left, check=False)
    except subprocess.TimeoutExpired:
        return f"stopped after {left:.0f} s"
    return "done" if done.returncode == 0 else f"failed with {done.returncode}"


if __name__ == "__main__":
    main()
