"""Whole renders, as a worker's loop has them."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from bench.own import Renderer
from impasto.workers import images
from impasto.workers.engine.loop import Event, Loop
from impasto.workers.engine.objective.styles import StyleCache
from impasto.workers.engine.plan import PLAIN
from impasto.workers.engine.render.pyramid import COARSE_ITERATIONS, Style
from impasto.workers.engine.render.render import Render

from .setup import Bench, Figures, MatrixProduct, convolution_flops
from .turns import alternating, repeat

THOUSAND = 1000


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


def start(bench: Bench) -> Figures:
    """Of the default recipe, whose first sizes are small."""
    content, style = bench.pictures(bench.pairs[0], bench.size)
    plan = replace(PLAIN, precision=bench.plan.precision)
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
            plan = replace(PLAIN, precision=bench.plan.precision, iterations=iterations)
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
    multiply = MatrixProduct(bench)
    runs = bench.runs(multiply)
    limit = alternating({"limit": partial(repeat, multiply, runs)}, bench.rounds)["limit"] / runs
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
        seconds = alternating(ways, 2 * bench.rounds)
    return {"share_of_time": seconds["every 10"] / seconds["none"] - 1}


def _encode(event: Event) -> None:
    assert event.image is not None
    images.encode_snapshot(event.image.numpy())
