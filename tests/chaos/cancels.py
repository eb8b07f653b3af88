"""Cancels that come as the render finishes: none may leave anybody in doubt."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import httpx2

from impasto.services import audit
from impasto.shared.states import TERMINAL, State
from tests.chaos.fleet import Fleet
from tests.chaos.verdict import BOUNDS, Verdict
from tests.chaos.world import World

NEAR_SECONDS = 0.050
AT_ONCE = 6  # many more, and two cores take half a second from the last upload to the end
LAST_UPLOADS = (
    "losses.csv",
    "manifest.json",
    "manifest.json",
)  # the end follows within some ten milliseconds


@dataclass
class Cancel:
    """One request; `at` is the machine's clock."""

    job_id: str
    at: float
    code: int
    told: str  # the state in the answer


def cancels(world: World, wanted: int, seed: int) -> Verdict:
    """The verdict on so many cancels within `NEAR_SECONDS` of their job's end."""
    chance = random.Random(seed)
    made: dict[str, Cancel] = {}
    close: list[Cancel] = []
    with (
        world.uploads() as uploads,
        Fleet(world, workers=3),
        httpx2.Client(base_url=world.url, timeout=10) as http,
        world.client() as client,
        ThreadPoolExecutor(2 * AT_ONCE) as pool,
    ):

        def cancel(job_id: str, after_seconds: float) -> None:
            time.sleep(after_seconds)
            at = time.time()
            answer = http.post(f"/v1/jobs/{job_id}/cancel")
            made[job_id] = Cancel(job_id, at, answer.status_code, answer.json()["status"])

        def submit(number: int) -> None:
            world.submit(client, world.chain(number, 8, 4), f"cancel-{number}")

        cues: dict[str, str] = {}  # by job: the upload after which it is cancelled
        submitted = 0
        end = time.monotonic() + max(30, wanted)
        while len(close) < wanted and time.monotonic() < end:
            for number in range(submitted, len(made) + AT_ONCE):
                pool.submit(submit, number)
                submitted += 1
            with suppress(TimeoutError):
                _, job_id, _, name = uploads.recv(4096).decode().split("/", 3)
                cue = cues.setdefault(job_id, chance.choice(LAST_UPLOADS))
                if name == cue:
                    pool.submit(cancel, job_id, chance.uniform(0, 0.02))
            if len(made) % 20 == 0:
                close = _near(world, made)
        pool.shutdown()
        world.await_ends(list(world.keys), 30)
        rows = world.rows("state", "result", "finished_at")
        breaches = [
            doubt
            for job_id, each in made.items()
            for doubt in _doubts(each, rows[job_id], http.get(f"/v1/jobs/{job_id}/result"))
        ]
    close = _near(world, made)
    if len(close) < wanted:
        breaches.append(f"too few: {len(close)} cancels came near enough")
    broken = audit.check(world.database, world.storage, BOUNDS, accepted=world.keys)
    breaches += [f"{each.invariant}: job {each.job_id}: {each.detail}" for each in broken]
    ends = [rows[each.job_id]["state"] for each in close]
    return Verdict(
        breaches,
        {
            "cancels": len(made),
            "within 50 ms of the end": len(close),
            "of them cancelled": ends.count(State.CANCELLED),
            "of them succeeded": ends.count(State.SUCCEEDED),
            "in doubt": sum(breach.startswith("in doubt") for breach in breaches),
        },
    )


def _near(world: World, made: dict[str, Cancel]) -> list[Cancel]:
    rows = world.rows("finished_at")
    return [
        each
        for each in list(made.values())
        if (end := rows[each.job_id]["finished_at"])
        and abs(each.at - end.timestamp()) <= NEAR_SECONDS
    ]


def _doubts(cancel: Cancel, row: dict[str, object], picture: httpx2.Response) -> list[str]:
    """Where the answer, the row and the result do not agree."""
    job, state = cancel.job_id, row["state"]
    doubts = []
    if state not in (State.CANCELLED, State.SUCCEEDED):
        doubts.append(f"in doubt: job {job} ended {state}")
    if cancel.told in TERMINAL and cancel.told != state:
        doubts.append(f"in doubt: job {job} was told to be {cancel.told} and is {state}")
    if cancel.code != (200 if cancel.told in TERMINAL else 202):
        doubts.append(f"in doubt: job {job} is {cancel.told}, answered {cancel.code}")
    if (row["result"] is not None) != (state == State.SUCCEEDED):
        doubts.append(f"in doubt: job {job} is {state}, its result is {row['result']}")
    if picture.status_code != (200 if state == State.SUCCEEDED else 409):
        doubts.append(f"in doubt: job {job} is {state}, its picture {picture.status_code}")
    return doubts
