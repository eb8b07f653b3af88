"""Everything that can be taken away, at random moments, while hundreds of renders run."""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import redis
from sqlalchemy import exists, select

from impasto.shared.database.tables import checkpoints, jobs
from impasto.shared.errors import Unavailable
from impasto.shared.states import State
from tests.chaos.fleet import Fleet
from tests.chaos.processes import Process
from tests.chaos.verdict import Verdict, verdict
from tests.chaos.world import LEASE_SECONDS, World
from tests.servers.postgres import Postgres
from tests.servers.valkey import Valkey

SUBMITTERS = 3
ITERATION_MS = 10.0


@dataclass(frozen=True)
class Weather:
    """How much of what happens, within how many seconds."""

    seconds: float
    jobs: int
    workers: int = 6
    reconcilers: int = 2
    kills: int = 0
    pauses: int = 0  # SIGSTOP for longer than the lease
    reconcilers_killed: int = 0
    apis_killed: int = 0
    flushes: int = 0
    valkey_restarts: int = 0
    postgres_stops: int = 0  # -m immediate
    cuts: int = 0  # of S3
    cut_seconds: float = 20.0
    is_late: bool = False  # it hits only workers that have kept a checkpoint of their job
    iterations: tuple[int, ...] = (20, 30, 40, 60, 80, 100, 250)


STORM = Weather(
    seconds=150,
    jobs=500,
    kills=104,
    pauses=52,
    reconcilers_killed=6,
    apis_killed=4,
    flushes=5,
    valkey_restarts=3,
    postgres_stops=3,
    cuts=2,
)


class Storm:
    """One run of a weather over a world.

    postgres, valkey: servers of our own, where the weather stops them.
    """

    def __init__(
        self,
        world: World,
        weather: Weather,
        seed: int,
        *,
        postgres: Postgres | None = None,
        valkey: Valkey | None = None,
        mutant: str | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._world = world
        self._weather = weather
        self._chance = random.Random(seed)
        self._postgres = postgres
        self._valkey = valkey
        self._say = say
        self._fleet = Fleet(
            world, workers=weather.workers, reconcilers=weather.reconcilers, mutant=mutant
        )
        self._done: Counter[str] = Counter()
        self._breaches: list[str] = []
        self._outages: list[tuple[float, float]] = []
        self._jobs: list[str] = []
        self._lock = threading.Lock()
        self._at_valkey = threading.Lock()

    def run(self, calm_seconds: float = 120) -> Verdict:
        """The verdict, once the storm is over and every job had time to end."""
        began = time.monotonic()
        told = threading.Event()
        with self._fleet, ThreadPoolExecutor(64, "storm") as pool, ExitStack() as telling:
            telling.callback(told.set)  # whatever happens: the pool waits for whoever tells
            pool.submit(self._tell, told, began)
            submitting = [pool.submit(self._submit, number) for number in range(SUBMITTERS)]
            running = []
            for at, action in self._plan():
                time.sleep(max(0.0, began + at - time.monotonic()))
                running.append(pool.submit(action))
            for future in running + submitting:
                future.result()
            self._say(f"calm after {time.monotonic() - began:.0f} s")
            found = verdict(
                self._world,
                self._jobs,
                self._fleet.blows,
                self._outages,
                calm_seconds=calm_seconds,
            )
        found.breaches = self._breaches + found.breaches
        found.figures |= dict(sorted(self._done.items()))
        found.figures["seconds"] = round(time.monotonic() - began, 1)
        return found

    def _plan(self) -> list[tuple[float, Callable[[], None]]]:
        """What happens when; nothing of one kind twice at a time."""
        weather, chance = self._weather, self._chance
        plan: list[tuple[float, Callable[[], None]]] = []

        def scatter(count: int, action: Callable[[], None]) -> None:
            # One in each of `count` equal spans: a seed may not put all of them into one second.
            span = (weather.seconds - 1) / max(1, count)
            plan.extend((1 + span * (i + chance.random()), action) for i in range(count))

        scatter(weather.kills, partial(self._kill, "worker"))
        scatter(weather.pauses, self._pause)
        scatter(weather.reconcilers_killed, partial(self._kill, "reconciler"))
        scatter(weather.apis_killed, self._kill_api)
        scatter(weather.flushes, self._flush)
        scatter(weather.valkey_restarts, self._restart_valkey)
        scatter(weather.postgres_stops, self._stop_postgres)
        span = weather.seconds / max(1, weather.cuts)
        plan += [(span * (i + 0.3), self._cut) for i in range(weather.cuts)]
        return sorted(plan, key=lambda planned: planned[0])

    def _submit(self, number: int) -> None:
        """A share of the jobs, evenly over most of the storm."""
        weather = self._weather
        chance = random.Random(self._chance.random())
        pause = 0.85 * weather.seconds / weather.jobs
        began = time.monotonic()
        with self._world.client() as client:
            for n in range(number, weather.jobs, SUBMITTERS):
                time.sleep(max(0.0, began + n * pause - time.monotonic()))
                spec = self._world.chain(n, chance.choice(weather.iterations), ITERATION_MS)
                job = self._world.submit(client, spec, f"storm-{n}")
                with self._lock:
                    self._jobs.append(job)
                if chance.random() < 0.1:
                    self._world.wakeups.notify()
                    self._count("wake-ups doubled")
                if chance.random() < 0.05:
                    again = self._world.submit(client, spec, f"storm-{n}")
                    if again != job:
                        self._breaches.append(f"I7: key storm-{n} made {job} and {again}")
                    self._count("submits doubled")

    def _kill(self, role: str) -> None:
        if victim := self._victim(role):
            self._fleet.kill(victim)
            self._count(f"{role}s killed")

    def _pause(self) -> None:
        if victim := self._victim("worker"):
            self._fleet.pause(victim, LEASE_SECONDS + self._chance.uniform(0.3, 1.5))
            self._count("workers paused")

    def _victim(self, role: str) -> Process | None:
        """One that may be hit; waits until there is one."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            among = self._hittable() if role == "worker" else None
            if victim := self._fleet.take(among, self._chance, role):
                return victim
            time.sleep(0.1)
        self._count("blows without a victim")
        return None

    def _hittable(self) -> set[str]:
        """The workers of whose jobs each can bear one more crash; busy ones, mostly."""
        names = {process.name for process in self._fleet.workers}
        has_checkpoint = exists().where(
            checkpoints.c.job_id == jobs.c.id, checkpoints.c.attempt == jobs.c.attempt
        )
        query = select(jobs.c.worker, has_checkpoint.label("is_late")).where(
            jobs.c.state == State.RUNNING
        )
        try:
            with self._world.database.read() as connection:
                running = connection.execute(query).all()
            names -= self._world.spared()
        except Unavailable:
            return set()
        if self._weather.is_late:
            return names & {row.worker for row in running if row.is_late}
        busy = names & {row.worker for row in running}
        return busy if busy and self._chance.random() < 0.85 else names

    def _kill_api(self) -> None:
        self._world.api.end()
        self._world.serve()
        self._count("APIs killed")

    def _flush(self) -> None:
        with self._at_valkey, redis.Redis.from_url(self._valkey.url) as client:
            client.flushall()
        self._count("Redis flushed")

    def _restart_valkey(self) -> None:
        with self._at_valkey:
            self._valkey.restart(hard=True)
        self._count("Redis restarted")

    def _stop_postgres(self) -> None:
        began = time.time()
        self._postgres.stop_signal = signal.SIGQUIT  # "immediate"
        self._postgres.stop()
        time.sleep(self._chance.uniform(0.5, 2.5))
        self._postgres.start()
        self._outages.append((began, time.time()))
        self._count("Postgres stopped")

    def _cut(self) -> None:
        began = time.time()
        self._world.to_swift.cut()
        time.sleep(self._weather.cut_seconds)
        self._world.to_swift.heal()
        self._outages.append((began, time.time()))
        self._count("S3 cut")

    def _count(self, what: str) -> None:
        with self._lock:
            self._done[what] += 1

    def _tell(self, told: threading.Event, began: float) -> None:
        while not told.wait(5):
            try:
                states = Counter(row["state"] for row in self._world.rows("state").values())
            except Unavailable:
                states = {"database": "away"}
            done = {**{str(state): count for state, count in states.items()}, **self._done}
            self._say(f"{time.monotonic() - began:4.0f} s  {done}")
