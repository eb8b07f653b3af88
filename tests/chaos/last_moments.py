"""S3 cut and workers killed between their last uploads and the end of their job."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from sqlalchemy import select

from impasto.shared.database.tables import attempts
from tests.chaos.fleet import Fleet
from tests.chaos.verdict import Verdict, verdict
from tests.chaos.world import World

KILL_SECONDS = 0.1  # at most so long after the last upload


def last_moments(world: World, count: int, seed: int, mutant: str | None = None) -> Verdict:
    """The verdict on so many jobs, each hit once as it was about to succeed."""
    chance = random.Random(seed)
    world.environment["IMPASTO_SLOTS"] = "1"  # whoever renders beside it is not to be hit as well
    with world.uploads() as uploads, ThreadPoolExecutor(8) as pool, world.client() as client:
        ids = [
            world.submit(client, world.chain(number, 20), f"last-{number}")
            for number in range(count)
        ]
        with Fleet(world, workers=3, mutant=mutant) as fleet:

            def kill(job_id: str, attempt: int) -> None:
                with cutting:
                    world.to_swift.cut()  # what is not stored by now will not be
                    with world.database.read() as connection:
                        of_it = attempts.c.job_id == job_id, attempts.c.attempt == attempt
                        name = connection.execute(select(attempts.c.worker).where(*of_it)).scalar()
                    time.sleep(chance.uniform(0, KILL_SECONDS))
                    if worker := fleet.take({name} - world.spared(), chance):
                        fleet.kill(worker)
                    world.to_swift.heal()

            cutting = threading.Lock()
            hit: set[str] = set()
            end = time.monotonic() + 30
            while world.owed(ids) and time.monotonic() < end:
                with suppress(TimeoutError):
                    _, job_id, folder, name = uploads.recv(4096).decode().split("/", 3)
                    if name == "manifest.json" and job_id not in hit:
                        hit.add(job_id)
                        pool.submit(kill, job_id, int(folder.partition("-")[0]))
            found = verdict(world, ids, fleet.blows)
    found.figures["kills"] = len(fleet.blows)
    return found
