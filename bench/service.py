"""What the service adds to a render's own time: `make bench-service`.

Starts the embedded stack on a folder of its own and sends it one small job after the other. Of
each job it measures
  start: from the moment the client submits until the engine has the first losses
  end:   from the end of the last iteration until the job has succeeded
with a warm worker: one job that is not counted goes first, and the pictures are uploaded.
"""

import argparse
import json
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from impasto.services.client import Client, Order
from impasto.services.embedded import Embedded
from impasto.shared import logs, settings

SAMPLES = Path(__file__).parents[1] / "samples"
PICTURES = SAMPLES / "skyline.jpg", SAMPLES / "brushstrokes.jpg"
GOALS = {"start": 0.150, "end": 0.250}  # seconds, at the median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=20, help="how many are measured")
    parser.add_argument("--size", type=int, default=256, help="long side, in px")
    parser.add_argument("--json", action="store_true", help="print figures for machines")
    arguments = parser.parse_args()
    logs.configure(settings.load(log_level="error"))

    with (
        tempfile.TemporaryDirectory() as home,
        Embedded(settings.load(home=home, port=0)) as service,
        Client(service.url) as client,
    ):
        service.worker.result()
        measured = [measure(client, arguments.size, n) for n in range(arguments.jobs + 1)][1:]
        rate = updates_per_second(client)

    figures = {
        name: {
            "median": statistics.median(values),
            "p90": sorted(values)[int(0.9 * (len(values) - 1))],
            "max": max(values),
            "goal": GOALS[name],
        }
        for name in GOALS
        if (values := [each[name] for each in measured])
    }
    if arguments.json:
        told = {"size": arguments.size, "jobs": arguments.jobs, "seconds": figures}
        print(json.dumps(told | {"updates_per_second": rate}))
        return
    print(f"{arguments.jobs} jobs of {arguments.size} px, one after the other, in ms")
    for name, figure in figures.items():
        row = "  ".join(f"{key} {1000 * value:4.0f}" for key, value in figure.items())
        print(f"  {name:6} {row}")
    print(f"progress is told {rate:.1f} times a second (goal: at least 2)")


def measure(client: Client, size: int, seed: int) -> dict[str, float]:
    """Seconds before the first and after the last iteration of one job."""
    order = Order.of(*PICTURES, size=size, iterations=3, snapshot_every=0, seed=seed)
    for picture in order.files.values():
        client.upload(picture.data, name=picture.name)
    submitted = datetime.now(UTC)
    job = client.submit(order.spec)
    finished = job.wait().times.finished_at or submitted
    times = json.loads(job.manifest())["times"]
    began, ended = (datetime.fromisoformat(times[name]) for name in ("began_at", "ended_at"))
    return {
        "start": (began - submitted).total_seconds(),
        "end": (finished - ended).total_seconds(),
    }


def updates_per_second(client: Client) -> float:
    """How often the status of a job changes while it renders; its iterations are short."""
    order = Order.of(*PICTURES, size=64, iterations=200, snapshot_every=0)
    job = client.submit(order.spec)
    version = job.wait().version
    times = json.loads(job.manifest())["times"]
    began, ended = (datetime.fromisoformat(times[name]) for name in ("began_at", "ended_at"))
    return (version - 4) / (ended - began).total_seconds()  # without submit, claim, save and end


if __name__ == "__main__":
    main()
