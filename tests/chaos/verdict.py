"""What a scenario left behind, held against the promise: every breach by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from impasto.services import audit
from impasto.shared.states import End, State
from tests.chaos.fleet import Blow
from tests.chaos.world import LEASE_SECONDS, RECONCILE_SECONDS, World

BOUNDS = audit.Bounds(lease_seconds=LEASE_SECONDS, reconcile_seconds=RECONCILE_SECONDS)
RECOVERY_MAX_SECONDS = LEASE_SECONDS + 10


@dataclass
class Verdict:
    """breaches: what is not as promised, each begins with the name of the check that saw it."""

    breaches: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"RED, by {', '.join(self.caught_by)}" if self.breaches else "green"

    @property
    def caught_by(self) -> list[str]:
        """The checks that saw a breach, each once."""
        return sorted({breach.partition(":")[0] for breach in self.breaches})


def verdict(
    world: World,
    job_ids: Sequence[str],
    blows: Iterable[Blow] = (),
    outages: Sequence[tuple[float, float]] = (),
    *,
    calm_seconds: float = 60,
) -> Verdict:
    """What became of these jobs, all of which are to succeed, once they had time to.

    outages: of the database and the storage, from when to when: nobody can claim during one, so
    its time is no part of a recovery.
    """
    found = Verdict()
    world.await_ends(job_ids, calm_seconds)
    rows = world.rows("state", "result", "error", "attempt", "failures")
    states = {job: rows[job]["state"] if job in rows else "missing" for job in job_ids}
    for job, state in states.items():
        if state not in (State.SUCCEEDED, State.FAILED, State.CANCELLED):
            found.breaches.append(f"lost: job {job} is {state}")
        elif state != State.SUCCEEDED:
            problem = rows[job]["error"] or {}
            found.breaches.append(
                f"failed: job {job}: {problem.get('code')} {problem.get('detail')}"
            )
    pictures = [job for job, state in states.items() if state == State.SUCCEEDED]
    same = [job for job in pictures if rows[job]["result"]["sha256"] == world.expected[job]]
    found.breaches += [f"picture: job {job} has another" for job in pictures if job not in same]
    recoveries = _recoveries(world, list(blows), outages)
    seconds = sorted(each.seconds for each in recoveries)
    if seconds and quantile(seconds, 0.99) > RECOVERY_MAX_SECONDS:
        late = [each for each in recoveries if each.seconds > RECOVERY_MAX_SECONDS]
        found.breaches += [f"recovery: {each}" for each in late]
    broken = audit.check(world.database, world.storage, BOUNDS, accepted=world.keys)
    found.breaches += [f"{each.invariant}: job {each.job_id}: {each.detail}" for each in broken]
    found.figures = {
        "jobs": len(job_ids),
        "succeeded": len(pictures),
        "same picture": len(same),
        "attempts resumed": sum(row["resumed_from_iteration"] > 0 for row in world.attempts()),
        "attempts": sum(rows[job]["attempt"] for job in job_ids if job in rows),
        "invariants broken": len(broken),
        "recoveries": len(recoveries),
    }
    if seconds:
        found.figures |= {
            f"recovery p{100 * q:.0f} s": round(quantile(seconds, q), 2) for q in (0.5, 0.99)
        }
    return found


@dataclass(frozen=True)
class Recovery:
    """From a blow that cost a running attempt its lease to the next attempt at its job."""

    job_id: str
    blow: Blow
    noticed_seconds: float  # until the reconciler took the job back
    outage_seconds: float  # of which nobody could have claimed it
    seconds: float  # until it was claimed again, without those

    def __str__(self) -> str:
        return (
            f"job {self.job_id}, {self.blow.kind} of {self.blow.worker}: taken back after"
            f" {self.noticed_seconds:.1f} s, claimed after {self.seconds:.1f} s"
            f" and {self.outage_seconds:.1f} s of outage"
        )


def quantile(values: Sequence[float], q: float) -> float:
    """Of sorted values, the least that so many do not exceed."""
    return values[min(len(values) - 1, int(q * len(values)))]


def _recoveries(
    world: World, blows: Sequence[Blow], outages: Sequence[tuple[float, float]]
) -> list[Recovery]:
    told = world.attempts()
    following = {(row["job_id"], row["attempt"] - 1): row for row in told}
    found = []
    for row in told:
        next_one = following.get((row["job_id"], row["attempt"]))
        if row["end"] != End.LEASE_EXPIRED or next_one is None:
            continue
        began, ended = row["started_at"].timestamp(), row["ended_at"].timestamp()
        hits = [b for b in blows if b.worker == row["worker"] and began < b.at < ended]
        if hits:
            last = max(hits, key=lambda blow: blow.at)
            again = next_one["started_at"].timestamp()
            away = sum(max(0.0, min(again, end) - max(last.at, start)) for start, end in outages)
            found.append(
                Recovery(row["job_id"], last, ended - last.at, away, again - last.at - away)
            )
    return found
