"""The engine beside its peers and its limits, in one run: `make bench-engine`.

steps    seconds an iteration, ours and pastiche's in turns; the convolutions' arithmetic, inside
         of them and over the whole step, against this machine's own matrix products
memory   what each holds at its peak above importing torch, each in a process of its own
large    the same of ours at 16 times the size, in the thinnest strips (three minutes)
quality  seconds until the saved file's loss is what pastiche ends with after 260 iterations of
         its L-BFGS, and what the tutorial's clamped L-BFGS has after 160, over eight pairs
batch    renders that share a pass against the same in turn
strips   a pass within a third of its memory against a whole one: error, time, memory
start    from a render's admission to the loop until its first look
snapshots what a picture every 10 iterations costs the loop
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args
from unittest import mock

import torch
from torch import Tensor

from bench.peers import Pastiche, Tutorial
from bench.pictures import Pair, pairs
from workers import images, weights
from workers.engine import passage
from workers.engine.loop import Loop
from workers.engine.objective import evaluate
from workers.engine.passage import blocks, whole_bytes
from workers.engine.pictures import to_image
from workers.engine.plan import Plan
from workers.engine.render import Render, Style
from workers.engine.styles import StyleCache
from workers.engine.vgg import CHANNELS, LAYERS, Precision, Vgg, resolve_precision

RESULTS = Path(__file__).parent / "results"
PASTICHE_ITERATIONS = 260
TUTORIAL_ITERATIONS = 160
PEERS = ("pastiche", "tutorial")
TURN = 4  # evaluations, of a race
STRIPS_BYTES = 60 * 10**6  # less than what lies between the blocks of a large picture
ROUNDS = 10
TURN_SECONDS = 1.5  # of the steps

Figures = dict[str, Any]
Asked = Literal["auto", "float32", "bfloat16"]


class Bench:
    """What all sections share."""

    def __init__(
        self, size: int, device: str, folder: Path | None, precision: Asked = "auto"
    ) -> None:
        self.size = size
        self.pairs = pairs(folder)
        self.vgg = Vgg(weights.load("caffe", Path("unused"), fetch=_nothing), device)
        # At one size: an iteration is an iteration. What `quality` races is the default recipe.
        self.plan = Plan(precision=resolve_precision(precision, device), pyramid=1)
        self.keep: Callable[[Figures], None] = lambda _: None  # what a long section has so far

    def pictures(self, pair: Pair, size: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(images.decode(file.read_bytes(), size)) for file in pair)

    def render(self, pair: Pair, size: int = 0, plan: Plan | None = None, **more: Any) -> Render:
        content, style = self.pictures(pair, size or self.size)
        return Render(plan or self.plan, self.vgg, content, [Style(style)], **more)


def steps(bench: Bench) -> Figures:
    found = {}
    for size in (bench.size, 4 * bench.size):
        content, style = bench.pictures(bench.pairs[0], size)
        ours = bench.render(bench.pairs[0], size)
        with tempfile.TemporaryDirectory() as folder:
            theirs = Pastiche(bench.plan, content, style, Path(folder))
        multiply = _matrix_product(bench)
        engines = {"ours": ours.step, "pastiche": theirs.step, "limit": multiply}
        runs = {name: _run(step) for name, step in engines.items()}
        ways = {name: partial(_repeat, step, runs[name]) for name, step in engines.items()}
        convolutions = _Convolutions(bench.vgg)
        ways["ours, watched"] = partial(convolutions.watch, ways["ours"])
        seconds = _in_turns(ways, ROUNDS, first=engines | {"ours, watched": ours.step})
        ours_seconds, theirs_seconds, limit_seconds = (seconds[name] / runs[name] for name in runs)
        within, with_relus = (
            statistics.median(measured) / runs["ours"]
            for measured in (convolutions.seconds, convolutions.with_relus)
        )
        height, width, _ = content.shape
        flops = convolution_flops(height, width)
        limit = multiply.flops / limit_seconds
        found[f"{size} px"] = {
            "canvas": [width, height],
            "ours_seconds": ours_seconds,
            "pastiche_seconds": theirs_seconds,
            "times_faster": theirs_seconds / ours_seconds,
            "limit_gflops": limit / 1e9,
            "convolutions_gflops": flops / within / 1e9,
            "share_of_limit": flops / within / limit,
            "share_with_relus": flops / with_relus / limit,
            "share_over_whole_step": flops / ours_seconds / limit,
        }
    return found


def convolution_flops(height: int, width: int) -> int:
    """What direct convolutions take for one look, there and back, to relu5_1."""
    flops = 0
    for layer in LAYERS[: LAYERS.index("5_1") + 1]:
        shrink = 2 ** (int(layer[0]) - 1)
        inputs, outputs = CHANNELS[layer]
        flops += 2 * 9 * inputs * outputs * (height // shrink) * (width // shrink)
    return 2 * flops


class _Convolutions:
    """Times what a network's convolutions take inside of steps, and the way back of their ReLUs.

    seconds, with_relus: of each time that something was watched.
    """

    def __init__(self, vgg: Vgg) -> None:
        self._vgg = vgg
        self._spent: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.with_relus: list[float] = []

    def watch(self, act: Callable[[], Any]) -> None:
        made = self._vgg._convolutions.values()
        watched = [(one, way) for one in made for way in ("forward", "backward")]
        self._spent.clear()
        with ExitStack() as watching:
            for where, name in (*watched, (passage, "mask")):
                timed = partial(self._time, name, getattr(where, name))
                watching.enter_context(mock.patch.object(where, name, timed))
            act()
        self.seconds.append(self._spent["forward"] + self._spent["backward"])
        self.with_relus.append(self.seconds[-1] + self._spent["mask"])

    def _time(self, name: str, way: Callable[..., Any], *given: Any, **named: Any) -> Any:
        _wait()
        began = time.perf_counter()
        result = way(*given, **named)
        _wait()
        self._spent[name] += time.perf_counter() - began
        return result


def memory(bench: Bench) -> Figures:
    found: Figures = {}
    for size in (bench.size, 4 * bench.size):
        peaks = {engine: _peak_apart(bench, engine, size) for engine in ("ours", "pastiche")}
        found[f"{size} px"] = {
            **{f"{engine}_bytes": peak for engine, peak in peaks.items()},
            "share": peaks["ours"] / peaks["pastiche"],
        }
    return found


def large(bench: Bench) -> Figures:
    size = 16 * bench.size
    return {f"{size} px": {"bytes": _peak_apart(bench, "strips", size)}}


def _peak_apart(bench: Bench, engine: str, size: int) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "bench.engine", "--peak", engine]
    command += ["--size", str(size), "--pair", *map(str, bench.pairs[0])]
    command += ["--precision", bench.plan.precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def peak(engine: str, pair: Pair, size: int, precision: Asked) -> int:
    """Bytes above importing torch, after some iterations; Linux only."""
    if engine == "pastiche":
        from pastiche.pastiche import PasticheArtist

        before = _peak_bytes()
        artist = PasticheArtist(str(pair.content), [str(pair.style)], size=size, device="cpu")
        for _ in range(3):
            artist.draw()
    else:
        before = _peak_bytes()
        budget_bytes = STRIPS_BYTES if engine == "strips" else None
        bench = Bench(size, "cpu", None, precision)
        running = bench.render(pair, budget_bytes=budget_bytes)
        for _ in range(4 if budget_bytes is None else 6):  # by then a large one remembers all
            running.step()
    return _peak_bytes() - before


def quality(bench: Bench) -> Figures:
    found: Figures = {}
    for pair in bench.pairs:
        found[pair.name] = goals = _race(bench, pair)
        bench.keep(found)
        _tell(pair.name, {k: v for k, v in goals.items() if not k.endswith("path")})
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
    tutorial = Tutorial(bench.vgg.weights, bench.plan, to_image(content), to_image(style))
    with tempfile.TemporaryDirectory() as folder:
        pastiche = Pastiche(bench.plan, content, style, Path(folder))
    peers = {
        "tutorial": _Racer(tutorial.step, tutorial.image, TUTORIAL_ITERATIONS),
        "pastiche": _Racer(pastiche.step, pastiche.image, PASTICHE_ITERATIONS),
    }
    ours = {}
    for init in ("content", "noise"):
        plan = Plan(init=init, iterations=4 * PASTICHE_ITERATIONS, precision=bench.plan.precision)
        render = bench.render(pair, plan=plan)
        ours[init] = _Racer(
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


def batch(bench: Bench) -> Figures:
    found = {}
    chosen = bench.pairs[0]
    for count in (1, 2, 4, 8):
        together = [bench.render(chosen) for _ in range(count)]
        alone = [bench.render(chosen) for _ in range(count)]

        def share(renders: Sequence[Render] = together) -> None:
            Render.step_together(renders)

        def in_turn(renders: Sequence[Render] = alone) -> None:
            for one in renders:
                one.step()

        for warm in (share, in_turn):
            warm()
        seconds = _in_turns({"together": share, "in turn": in_turn}, ROUNDS)
        found[str(count)] = {
            "seconds_a_picture": seconds["together"] / count,
            "times_faster_than_in_turn": seconds["in turn"] / seconds["together"],
        }
    return found


def strips(bench: Bench) -> Figures:
    """In float32, in which one can compare, and in the precision that is measured."""
    precisions = dict.fromkeys(("float32", bench.plan.precision))
    return {precision: _strips(bench, precision) for precision in precisions}


def _strips(bench: Bench, precision: Precision) -> Figures:
    plan = replace(bench.plan, precision=precision)
    objective = bench.render(bench.pairs[0], 4 * bench.size, plan)._objective
    image = objective.canvas + torch.linspace(-5, 5, objective.canvas.shape[-1])
    image = image.clamp(0, 255)
    evaluate([objective], image)
    whole = whole_bytes(blocks(objective.layers, *image.shape[-2:]), plan.precision)
    seen: dict[str, Tensor] = {}

    def look(name: str, budget: int | None) -> None:
        _, seen[name] = evaluate([objective], image, budget_bytes=budget)

    held = {}
    for name, budget in (("whole", None), ("strips", whole // 3)):
        bench.vgg.arena.clear()
        look(name, budget)
        held[name] = bench.vgg.arena.size_bytes
    ways = {"whole": lambda: look("whole", None), "strips": lambda: look("strips", whole // 3)}
    seconds = _in_turns(ways, ROUNDS)
    error = (seen["strips"] - seen["whole"]).norm() / seen["whole"].norm()
    return {
        "canvas": list(image.shape[:1:-1]),
        "gradient_error": float(error),
        "times_slower": seconds["strips"] / seconds["whole"],
        "budget_bytes": whole // 3,
        "held_bytes": held,
    }


def start(bench: Bench) -> Figures:
    """Of the default recipe, whose first sizes are small."""
    content, style = bench.pictures(bench.pairs[0], bench.size)
    plan = Plan(precision=bench.plan.precision)
    bench.render(bench.pairs[0], plan=plan).step()
    found = {}
    with Loop() as loop:
        for name, cache in (("style_seen_before", StyleCache()), ("style_new", None)):
            measured = []
            for _ in range(ROUNDS + 1):
                began = time.perf_counter()
                built: list[float] = []

                def build(
                    began: float = began,
                    built: list[float] = built,
                    cache: StyleCache | None = cache,
                ) -> Render:
                    made = Render(plan, bench.vgg, content, [Style(style, asset="a")], cache=cache)
                    built.append(time.perf_counter() - began)
                    return made

                with loop.admit(build) as run:
                    run.events()
                measured.append(built[0])
            found[name] = {"seconds": statistics.median(measured[1:])}
    return found


def snapshots(bench: Bench) -> Figures:
    """One render with and without, in turns of 40 iterations; encoded beside the loop."""
    plan = replace(bench.plan, iterations=40)
    cache = StyleCache()

    def watch(every: int) -> None:
        build = lambda: bench.render(bench.pairs[0], plan=plan, cache=cache)  # noqa: E731
        with (
            ThreadPoolExecutor(1) as encoder,
            Loop() as loop,
            loop.admit(build, every) as run,
        ):
            for event in run:
                if event.image is not None and event.progress.iteration < plan.iterations:
                    encoder.submit(images.encode_snapshot, event.image.numpy())

    watch(10)
    seconds = _in_turns({"none": lambda: watch(0), "every 10": lambda: watch(10)}, 2 * ROUNDS)
    return {"share_of_time": seconds["every 10"] / seconds["none"] - 1}


SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    section.__name__: section
    for section in (steps, memory, large, strips, batch, start, snapshots, quality)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="default: all of them")
    parser.add_argument("--size", type=int, default=256, help="long side, in px (default 256)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", choices=get_args(Asked))
    parser.add_argument("--pictures", type=Path, help="a folder of other photographs and paintings")
    parser.add_argument("--out", type=Path, help="a JSON file; default: bench/results/DATE-DEVICE")
    parser.add_argument("--peak", choices=["ours", "pastiche", "strips"], help=argparse.SUPPRESS)
    parser.add_argument("--pair", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        pair = Pair(*arguments.pair)
        print(peak(arguments.peak, pair, arguments.size, arguments.precision))
        return
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section is called {unknown.pop()}; accepted: {', '.join(SECTIONS)}")

    bench = Bench(arguments.size, arguments.device, arguments.pictures, arguments.precision)
    today = datetime.now(UTC).date().isoformat()
    out = arguments.out or RESULTS / f"{today}-{arguments.device}.json"
    found = json.loads(out.read_text()) if out.exists() else {}
    found["machine"] = {
        "date": today,
        "device": arguments.device,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": bench.plan.precision,
        "size": arguments.size,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.sections or SECTIONS:

        def keep(figures: Figures, name: str = name) -> None:
            found[name] = figures
            out.write_text(json.dumps(found, indent=1) + "\n")

        bench.keep = keep
        keep(SECTIONS[name](bench))
        _tell(name, found[name])
    print(f"written to {out}")


class _matrix_product:  # noqa: N801
    """A large matrix product in the convolutions' precision; called, it makes one."""

    side = 2048
    flops = 2 * side**3

    def __init__(self, bench: Bench) -> None:
        dtype = torch.bfloat16 if bench.plan.precision == "bfloat16" else torch.float32
        self._a, self._b = (
            torch.randn(self.side, self.side, device=bench.vgg.device).to(dtype) for _ in "ab"
        )

        self._out = torch.empty_like(self._a)  # as what we convolve into, it is there already

    def __call__(self) -> None:
        torch.mm(self._a, self._b, out=self._out)


def _judge(bench: Bench, content: Tensor, style: Tensor) -> Callable[[Tensor], float]:
    """The total loss in float32 of an image as a file would hold it."""
    plan = Plan(pyramid=1)  # of the canvas's size from the start
    objective = Render(plan, bench.vgg, content, [Style(style)])._objective
    evaluate([objective], objective.canvas)
    return lambda image: float(evaluate([objective], image.round().clamp(0, 255))[0][0, 0])


class _Racer:
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


def _run(way: Callable[[], Any]) -> int:
    """How many times it goes into a turn: many, as renders step."""
    way()
    _wait()
    began = time.perf_counter()
    way()
    _wait()
    return max(1, round(TURN_SECONDS / (time.perf_counter() - began)))


def _repeat(way: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        way()


def _in_turns(
    ways: dict[str, Callable[[], Any]],
    rounds: int,
    first: dict[str, Callable[[], Any]] | None = None,
) -> dict[str, float]:
    """Median seconds of each, in turns, there and back, so that a slow minute hits all alike.

    first: what is done before a turn is measured, of which the first step after another's turn
    finds nothing in the caches: it took a product twice its time, and a step a third more.
    """
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        for name, way in list(ways.items())[:: 1 - 2 * (i % 2)]:
            if first:
                first[name]()
                _wait()
            began = time.perf_counter()
            way()
            _wait()
            measured[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in measured.items()}


def _wait() -> None:
    """Until the device has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell a process's peak")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _tell(name: str, figures: Figures) -> None:
    print(name)
    for key, value in figures.items():
        print(f"  {key}: {json.dumps(value, default=str)[:500]}", flush=True)


def _nothing(address: str) -> bytes:
    raise FileNotFoundError(address)


if __name__ == "__main__":
    main()
