"""Build the images, start the stack, try each promise: `make test-images`.

Ends with status 0 where every promise was kept, 1 where one was not, 2 where there is no engine.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.images.engine import NoEngine, Stack, versions
from tests.images.promises import PROMISES, Promise
from tests.servers.server import free_port

PROJECT = "impasto-test"  # beside a stack of one's own, which is called impasto


@dataclass(frozen=True)
class Finding:
    chapter: str
    promise: str
    is_kept: bool
    seen: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="test-images", description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, default=Path("out/images.json"), help="the findings")
    parser.add_argument(
        "--keep", action="store_true", help="leave the stack as the last promise does"
    )
    arguments = parser.parse_args()
    try:
        engine = versions()
    except NoEngine as error:
        print(f"test-images: {error}", file=sys.stderr)
        return 2
    print(f"{engine}; {len(PROMISES)} promises", flush=True)
    with tempfile.TemporaryDirectory(prefix="impasto-images-") as folder:
        stack = Stack(Path(folder), PROJECT, free_port())
        stack.clear()
        try:
            findings = [_try(promise, stack) for promise in PROMISES]
        finally:
            if not arguments.keep:
                stack.clear()
    _print(findings)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    found = {"engine": engine, "at": datetime.now(UTC).isoformat(), "findings": findings}
    arguments.json.write_text(json.dumps(found, default=asdict, indent=2) + "\n")
    return int(not all(finding.is_kept for finding in findings))


def _try(promise: Promise, stack: Stack) -> Finding:
    began = time.monotonic()
    try:
        seen, is_kept = promise.check(stack), True
    except Exception as error:  # the next promise is tried all the same
        seen, is_kept = f"{type(error).__name__}: {error}", False
    seconds = time.monotonic() - began
    print(
        f"{'kept' if is_kept else 'BROKEN'}  {promise.sentence}: {seen} ({seconds:.0f} s)",
        flush=True,
    )
    return Finding(promise.chapter, promise.sentence, is_kept, seen, seconds)


def _print(findings: list[Finding]) -> None:
    print("\n| promise | kept | seen |\n|---|---|---|")
    for each in findings:
        seen = " ".join(each.seen.split()).replace("|", "/")
        print(f"| {each.chapter}: {each.promise} | {'yes' if each.is_kept else 'NO'} | {seen} |")


if __name__ == "__main__":
    sys.exit(main())
