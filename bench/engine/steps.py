"""What a step takes: alone, beside its limit, in company, in strips."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from bench.peers.same_loss import pastiche
from impasto.workers.engine.layers import Precision
from impasto.workers.engine.network import passage
from impasto.workers.engine.network.strips import blocks, whole_bytes
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.objective import evaluate
from impasto.workers.engine.render.render import Render

from .setup import Bench, Figures, MatrixProduct, convolution_flops
from .turns import alternating, repeat, wait

COMPANY = (20, 200)  # iterations after which pictures are compared


def steps(bench: Bench) -> Figures:
    found = {}
    for size in (bench.size, 4 * bench.size):
        content, style = bench.pictures(bench.pairs[0], size)
        ours = bench.render(bench.pairs[0], size)
        theirs = pastiche(bench.plan, content, style, str(bench.vgg.device))
        multiply = MatrixProduct(bench)
        engines = {"ours": ours.step, "pastiche": theirs.step, "limit": multiply}
        runs = {name: bench.runs(step) for name, step in engines.items()}
        ways = {name: partial(repeat, step, runs[name]) for name, step in engines.items()}
        convolutions = _Convolutions(bench.vgg)
        if not bench.is_on_gpu:  # where steps are replayed, and call nothing
            ways["ours, watched"] = partial(convolutions.watch, ways["ours"])
        seconds = alternating(ways, bench.rounds, first=engines | {"ours, watched": ours.step})
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
        wait()
        began = time.perf_counter()
        result = way(*given, **named)
        wait()
        self._spent[name] += time.perf_counter() - began
        return result


def batch(bench: Bench) -> Figures:
    found = {}
    chosen = bench.pairs[0]
    multiply = MatrixProduct(bench)
    runs = bench.runs(multiply)
    product = partial(repeat, multiply, runs)
    limit = multiply.flops * runs / alternating({"": product}, bench.rounds)[""]
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
        seconds = alternating(
            {n: partial(repeat, way, runs) for n, way in ways.items()}, bench.rounds
        )
        seconds_each = seconds["together"] / count / runs
        height, width = together[0].batch_key[:2]
        found[str(count)] = {
            "seconds_a_picture": seconds_each,
            "times_faster_than_in_turn": seconds["in turn"] / seconds["together"],
            "share_over_whole_step": convolution_flops(height, width) / seconds_each / limit,
        }
    return found


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
    seconds = alternating(ways, bench.rounds)
    error = (seen["strips"] - seen["whole"]).norm() / seen["whole"].norm()
    return {
        "canvas": list(image.shape[:1:-1]),
        "gradient_error": float(error),
        "times_slower": seconds["strips"] / seconds["whole"],
        "budget_bytes": whole // 3,
        "held_bytes": held,
    }
