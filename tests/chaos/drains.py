"""Workers that are told to stop, at moments that nobody chose."""

import random
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import select

from impasto.shared.database.tables import jobs
from impasto.shared.states import End, State
from tests.chaos.fleet import Fleet
from tests.chaos.processes import Process
from tests.chaos.verdict import Verdict, verdict
from tests.chaos.world import World, until

EXIT_MAX_SECONDS = 25.0
CHECKPOINT_SECONDS = 1.0
COMMIT_SECONDS = 1.0  # from a checkpoint's moment until its row is there, on two busy cores
ITERATION_MS = 10.0
AT_ONCE = 3

WHILE_LOADING, WHILE_HANGING = "SIGTERM while it loads", "SIGTERM while S3 hangs"
SIGNALS: dict[str, Sequence[signal.Signals]] = {
    "SIGTERM": [signal.SIGTERM],
    WHILE_LOADING: [signal.SIGTERM],
    WHILE_HANGING: [signal.SIGTERM],
    "SIGQUIT": [signal.SIGQUIT],
    "SIGTERM, SIGQUIT": [signal.SIGTERM, signal.SIGQUIT],
}


@dataclass(frozen=True)
class Drain:
    """One worker's end; `at` is the machine's clock."""

    how: str
    worker: str
    at: float
    seconds: float
    iterations: Mapping[str, int]  # how far the jobs were known to be, just before


def drains(
    world: World, counts: Mapping[str, int], seed: int, *, count: int, mutant: str | None = None
) -> Verdict:
    """The verdict on so many drains of each kind.

    counts: by the names of `SIGNALS`.
    count: of the jobs that the workers are busy with.
    """
    chance = random.Random(seed)
    done: list[Drain] = []
    stored: dict[str, int] = {}  # how far jobs were when S3 began to hang: no more can be kept
    world.environment["IMPASTO_CHECKPOINT_SECONDS"] = str(CHECKPOINT_SECONDS)

    def drain(how: str, worker: Process) -> None:
        iterations = stored or _iterations(world)
        at = time.time()
        for number in SIGNALS[how]:
            worker.send(number)
            time.sleep(0.3 if len(SIGNALS[how]) > 1 else 0)
        worker.await_end(EXIT_MAX_SECONDS + 10)
        seconds = (worker.gone_at or time.time()) - at
        done.append(Drain(how, worker.name, at, seconds, iterations))
        worker.end()

    def drain_busy(how: str) -> None:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if worker := fleet.take(_busy(world), chance):
                time.sleep(chance.uniform(0, 0.7))
                drain(how, worker)
                return
            time.sleep(0.05)

    def drain_young(how: str) -> None:
        worker = world.start("worker", mutant)
        time.sleep(chance.uniform(0, 1.5))
        drain(how, worker)

    with world.client() as client, ThreadPoolExecutor(16) as pool:
        lengths = [chance.randrange(100, 400) for _ in range(count)]
        ids = [
            world.submit(client, world.chain(number, length, ITERATION_MS), f"drain-{number}")
            for number, length in enumerate(lengths)
        ]
        with Fleet(world, workers=4, mutant=mutant) as fleet:
            with ThreadPoolExecutor(AT_ONCE) as few:
                each = [
                    few.submit(drain_young if how == WHILE_LOADING else drain_busy, how)
                    for how in SIGNALS
                    if how != WHILE_HANGING
                    for _ in range(counts.get(how, 0))
                ]
            for future in each:
                future.result()
            if hanging := counts.get(WHILE_HANGING, 0):
                until(lambda: len(_busy(world)) >= hanging, 30, "so many workers are busy")
                stored.update(_iterations(world))
                world.to_swift.freeze()
                time.sleep(0.5)
                hung = [pool.submit(drain_busy, WHILE_HANGING) for _ in range(hanging)]
                for future in hung:
                    future.result()
                world.to_swift.heal()
            found = verdict(world, ids)
    asked = sum(counts.values())
    if len(done) < asked:
        found.breaches.append(f"too few: {len(done)} of {asked} drains found a worker")
    slow = [each for each in done if each.seconds > EXIT_MAX_SECONDS]
    found.breaches += [f"exit: {each.how} took {each.seconds:.1f} s" for each in slow]
    found.breaches += _counted(world, done)
    lost = _lost_seconds(world, done)
    found.breaches += [
        f"lost work: {seconds:.1f} s of job {job}"
        for job, seconds in lost.items()
        if seconds > CHECKPOINT_SECONDS + COMMIT_SECONDS
    ]
    by_kind = Counter(each.how for each in done)
    found.figures |= {
        "drains": len(done),
        **{f"drains, {how}": count for how, count in by_kind.items()},
        "slowest exit s": round(max(each.seconds for each in done), 2),
        "most work lost s": round(max(lost.values(), default=0.0), 2),
    }
    return found


def _busy(world: World) -> set[str]:
    with world.database.read() as connection:
        running = select(jobs.c.worker).where(jobs.c.state == State.RUNNING, jobs.c.iteration > 0)
        return set(connection.execute(running).scalars())


def _iterations(world: World) -> dict[str, int]:
    """How far each job that runs is known to be."""
    rows = world.rows("state", "iteration").items()
    return {job: row["iteration"] for job, row in rows if row["state"] == State.RUNNING}


def _counted(world: World, done: Sequence[Drain]) -> list[str]:
    """The drained attempts whose end counts as a failure."""
    drained = {each.worker: each for each in done}
    harmless = {End.HANDED_BACK, End.SUCCEEDED}
    return [
        f"counted: job {row['job_id']} attempt {row['attempt']} ended {row['end']}"
        f" after {drained[row['worker']].how}"
        for row in world.attempts()
        if row["worker"] in drained and row["end"] not in harmless
    ]


def _lost_seconds(world: World, done: Sequence[Drain]) -> dict[str, float]:
    """The most of the device's time that each job lost: what it had made, and had to make again."""
    drained = {each.worker: each for each in done}
    told = world.attempts()
    following = {(row["job_id"], row["attempt"] - 1): row for row in told}
    lost: dict[str, float] = {}
    for row in told:
        job_id, next_one = row["job_id"], following.get((row["job_id"], row["attempt"]))
        if row["worker"] in drained and next_one:
            made = drained[row["worker"]].iterations.get(job_id, 0)
            again = max(0, made - next_one["resumed_from_iteration"])
            lost[job_id] = max(lost.get(job_id, 0.0), again * ITERATION_MS / 1000)
    return lost
