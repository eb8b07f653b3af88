"""Real renders, killed at random iterations: the same bytes as if nothing had come between."""

import random
import time
from collections import Counter

from sqlalchemy import select

from impasto.shared.database.tables import jobs
from impasto.shared.spec import JobSpec
from impasto.shared.states import State
from tests.chaos.fleet import Fleet
from tests.chaos.verdict import Verdict, verdict
from tests.chaos.world import World

ITERATIONS = 12  # half of them at the coarser size, where there are two
SETTINGS = {
    "IMPASTO_SLOTS": "1",
    "IMPASTO_CHECKPOINT_SECONDS": "0.2",
    "IMPASTO_PROGRESS_SECONDS": "0.05",
}


def paintings(world: World, count: int, seed: int) -> Verdict:
    """The verdict on so many renders, each killed at least once, beside their undisturbed twins."""
    chance = random.Random(seed)
    specs = [_spec(world, number) for number in range(count)]
    with world.client() as client:
        twins = [world.submit(client, spec, f"twin-{n}") for n, spec in enumerate(specs)]
        with Fleet(world, workers=2):
            assert world.await_ends(twins, 120), "the undisturbed renders take too long"
        rows = world.rows("result")
        killed = [world.submit(client, spec, f"killed-{n}") for n, spec in enumerate(specs)]
    world.expected = {
        job: rows[twin]["result"]["sha256"] for job, twin in zip(killed, twins, strict=True)
    }
    targets = {job: chance.randrange(1, ITERATIONS - 1) for job in killed}
    with Fleet(world, workers=3) as fleet:
        kills = _kill_each(world, fleet, targets, chance)
        found = verdict(world, killed, fleet.blows)
    found.breaches += [f"too gentle: job {job} was not killed" for job in killed if not kills[job]]
    starts = [row["resumed_from_iteration"] for row in world.attempts() if row["attempt"] > 1]
    if 2 * sum(start > 0 for start in starts) < len(starts):
        found.breaches.append(f"not resumed: attempts began at {starts}")
    found.figures |= {
        "different pictures": len(set(world.expected.values())),
        "kills": kills.total(),
        "resumed from a checkpoint": sum(start > 0 for start in starts),
    }
    return found


def _spec(world: World, number: int) -> JobSpec:
    return world.spec(
        seed=number,
        iterations=ITERATIONS,
        optimizer=("adam", "lbfgs")[number % 2],
        pyramid=1 + number // 2 % 2,
        init="noise",
    )


def _kill_each(
    world: World, fleet: Fleet, targets: dict[str, int], chance: random.Random
) -> Counter[str]:
    """How often each job's worker was killed, the first time at its target or soon after."""
    kills: Counter[str] = Counter()
    end = time.monotonic() + 120
    while world.owed(targets) and time.monotonic() < end:
        is_ripe = select(jobs.c.id, jobs.c.worker, jobs.c.iteration).where(
            jobs.c.state == State.RUNNING, jobs.c.iteration > 0
        )
        with world.database.read() as connection:
            running = connection.execute(is_ripe).all()
        for row in running:
            is_due = not kills[row.id] and row.iteration >= targets.get(row.id, ITERATIONS)
            if is_due and (worker := fleet.take({row.worker}, chance)):
                fleet.kill(worker)
                kills[row.id] += 1
        time.sleep(0.02)
    return kills
