"""Short slices of `make chaos`, and its own tools held against what they must see."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from pydantic import ValidationError

from impasto.workers.engine.plan import PLAIN
from impasto.workers.engine.render.pyramid import Style
from tests.arrange.paths import ROOT
from tests.chaos import clocks
from tests.chaos.cancels import cancels
from tests.chaos.chain import LINK, Chain
from tests.chaos.controls import CONTROLS, check
from tests.chaos.drains import drains
from tests.chaos.last_moments import last_moments
from tests.chaos.processes import Zygotes
from tests.chaos.storm import Storm, Weather
from tests.chaos.world import World, world
from tests.servers.postgres import PostgresAt
from tests.servers.server import Server
from tests.servers.swift import S3At
from tests.servers.valkey import ValkeyAt

SEED = 4
SHOWER = Weather(
    seconds=4,
    jobs=12,
    workers=3,
    reconcilers=1,
    kills=2,
    pauses=1,
    cuts=1,
    cut_seconds=0.5,
    iterations=(20, 40, 80),
)

OpenWorld = Callable[..., AbstractContextManager[World]]


@pytest.fixture(scope="module")
def open_world(
    postgres: PostgresAt, valkey: ValkeyAt, swift: S3At, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenWorld]:
    """`open_world()`: a world with a service in it, its processes forked from zygotes."""
    if not all(isinstance(server, Server) for server in (postgres, valkey, swift)):
        pytest.skip("chaos puts proxies in front of servers of its own")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in swift.environment().items():
            patch.setenv(name, value)
        zygotes = stack.enter_context(Zygotes(tmp_path_factory.mktemp("chaos")))
        yield partial(world, zygotes, postgres, valkey, swift)


@pytest.fixture
def here(open_world: OpenWorld) -> Iterator[World]:
    with open_world() as here:
        yield here


def test_a_shower_of_kills_pauses_and_cuts_costs_no_job_and_no_pixel(here: World) -> None:
    found = Storm(here, SHOWER, SEED).run()

    assert found.breaches == []
    assert found.figures["same picture"] == SHOWER.jobs
    assert found.figures["workers killed"] == SHOWER.kills


def test_a_storm_that_cannot_submit_ends_with_the_reason(here: World) -> None:
    here.assets = "no digest", "nor this"

    with pytest.raises(ValidationError, match="content"):
        Storm(here, Weather(seconds=1, jobs=1, workers=0, reconcilers=0), SEED).run()


def test_workers_that_are_told_to_stop_go_in_time_and_count_nothing(here: World) -> None:
    counts = {"SIGTERM": 2}

    found = drains(here, counts, SEED, count=4)

    assert found.breaches == []
    assert found.figures["drains"] == 2


def test_a_cancel_at_the_finish_leaves_nobody_in_doubt(here: World) -> None:
    assert cancels(here, 6, SEED).breaches == []


def test_a_pointer_that_is_written_before_its_upload_is_seen(here: World) -> None:
    assert "I5" in last_moments(here, 4, SEED, "pointer_before_upload").caught_by


@pytest.mark.skipif(find_spec("libfaketime") is None, reason="it is for Linux on x86_64 alone")
@pytest.mark.parametrize("skew", [90.0, -90.0])
def test_a_wrong_clock_is_wrong_for_python_and_for_c_and_no_wait_heeds_it(skew: float) -> None:
    tell = "import json; from tests.chaos import clocks; print(json.dumps(clocks.seen()))"

    told = subprocess.run(
        [sys.executable, "-c", tell],
        cwd=ROOT,
        env=clocks.skewed(skew),
        capture_output=True,
        check=True,
    )

    theirs, ours = json.loads(told.stdout), clocks.seen()
    ahead = {name: theirs[name] - ours[name] for name in ours}
    near = pytest.approx(skew, abs=clocks.TOLERANCE_SECONDS)
    assert (ahead["time"], ahead["datetime"], ahead["C"]) == (near, near, near)
    assert abs(ahead["monotonic"]) < clocks.TOLERANCE_SECONDS
    assert clocks.WAIT_SECONDS <= theirs["waited"] < clocks.TOLERANCE_SECONDS
    assert clocks.wrong(theirs, ours, skew) == []


def test_a_clock_that_is_right_is_found_out_where_it_should_be_wrong() -> None:
    found = clocks.wrong(clocks.seen(), clocks.seen(), 90)

    assert [line.split()[0] for line in found] == ["time", "datetime", "C"]


def test_a_control_of_wrong_clocks_is_red_where_libfaketime_is_missing(
    open_world: OpenWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libfaketime", None)
    control = next(each for each in CONTROLS if each.is_skewed and not each.mutant)

    (breach,) = check(control, open_world, SEED).breaches

    assert breach.startswith("not run")
    assert "libfaketime" in breach


def steps(chain: Chain, count: int) -> bytes:
    for _ in range(count):
        Chain.step_together([chain])
    return chain.image().numpy().tobytes()


def chain() -> Chain:
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8)
    plan = replace(PLAIN, iterations=9, optimizer="adam", learning_rate=0.01, seed=3)
    return Chain(plan, picture, [Style(picture)])


def test_a_chain_that_is_resumed_ends_as_if_nothing_had_been() -> None:
    first, second = chain(), chain()
    steps(first, 5)

    second.load_state_dict(first.state_dict())

    assert steps(second, 5) == steps(chain(), 10)
    assert second.is_finished


@pytest.mark.parametrize("spoilt", [LINK, "iteration"])
def test_a_chain_shows_what_its_checkpoint_lacked(spoilt: str) -> None:
    first, second = chain(), chain()
    steps(first, 5)
    state = first.state_dict()
    if spoilt == LINK:
        del state[LINK]
    else:
        state["iteration"] += 1

    second.load_state_dict(state)

    assert steps(second, 5 if spoilt == LINK else 4) != steps(chain(), 10)
