"""Negative controls: each mutant has to turn a short slice of the suite red."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tests.chaos.clocks import NoFaketimeError
from tests.chaos.drains import drains
from tests.chaos.last_moments import last_moments
from tests.chaos.storm import Storm, Weather
from tests.chaos.verdict import Verdict
from tests.chaos.world import World

SKEW_SECONDS = 90.0


@dataclass(frozen=True)
class Control:
    """A slice, and what is broken in it.

    is_skewed: some processes' clocks are ahead, others behind.
    """

    name: str
    run: Callable[[World, int, str | None], Verdict]
    mutant: str | None = None
    is_skewed: bool = False


def check(
    control: Control, open_world: Callable[..., AbstractContextManager[World]], seed: int
) -> Verdict:
    """Green if the mutant was caught or, without one, if there was nothing to catch."""
    skews = (0.0, SKEW_SECONDS, -SKEW_SECONDS) if control.is_skewed else (0.0,)
    try:
        with open_world(skews=skews) as world:
            found = control.run(world, seed, control.mutant)
    except NoFaketimeError as error:
        return Verdict([f"not run: {error}"])
    if control.mutant is None:
        return found
    seen = {"caught by": ", ".join(found.caught_by), "breaches": len(found.breaches)}
    missed = [] if found.breaches else [f"missed: nothing saw {control.mutant}"]
    return Verdict(missed, seen)


def _storm(
    weather: Weather, calm_seconds: float = 40
) -> Callable[[World, int, str | None], Verdict]:
    def run(world: World, seed: int, mutant: str | None) -> Verdict:
        return Storm(world, weather, seed, mutant=mutant).run(calm_seconds)

    return run


def _drains(world: World, seed: int, mutant: str | None) -> Verdict:
    return drains(world, {"SIGTERM": 4}, seed, count=10, mutant=mutant)


def _last_moments(world: World, seed: int, mutant: str | None) -> Verdict:
    return last_moments(world, 16, seed, mutant)


_FEW = Weather(seconds=8, jobs=8, workers=3, reconcilers=1)
# Long renders: a worker that comes back from a pause finds another at its job.
_PAUSES = replace(_FEW, pauses=6, iterations=(300, 400), is_late=True)
# Late kills: there is a checkpoint to go on from.
_KILLS = replace(_FEW, kills=5, iterations=(200, 250), is_late=True)
_CUT = Weather(seconds=6, jobs=20, workers=3, reconcilers=1, cuts=1, cut_seconds=3)

CONTROLS = (
    Control("no fence", _storm(_PAUSES), "no_fence"),
    Control("no reconciling", _storm(_KILLS, calm_seconds=8), "no_reconciling"),
    Control("keys without attempt", _storm(_KILLS), "keys_without_attempt"),
    Control("pointer before upload", _last_moments, "pointer_before_upload"),
    Control("image-only checkpoint", _storm(_KILLS), "image_only_checkpoint"),
    Control("failures counted on drain", _drains, "drain_counts"),
    Control("wall-clock leases", _storm(_KILLS), "wall_clock_leases", is_skewed=True),
    Control("nothing broken, clocks wrong", _storm(_KILLS), is_skewed=True),
    Control("nothing broken, pauses", _storm(_PAUSES)),
    Control("nothing broken, killed at the end", _last_moments),
    Control("nothing broken, S3 cut", _storm(_CUT)),
)
