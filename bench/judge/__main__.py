"""Judges a picture, or itself: `python -m bench.judge PICTURE PHOTOGRAPH PAINTING`, `--validate`.

--validate holds the judge against comparisons whose answer is known, on the pictures that
scikit-image and scikit-learn carry and on those of a folder, and ends with 1 where it errs in more
than one of twenty.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from bench.judge.judge import Judge, Trunks, read
from bench.judge.validation import Comparison, comparisons, face_comparisons, peer_comparisons
from bench.pictures import Pair, pairs, portrait

RIGHT_MIN = 0.95


def main() -> int:
    parser = argparse.ArgumentParser(prog="judge", description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, metavar="PICTURE PHOTOGRAPH PAINTING")
    parser.add_argument("--validate", action="store_true", help="judge the judge")
    parser.add_argument("--pictures", type=Path, help="a folder of other photographs and paintings")
    parser.add_argument("--size", type=int, default=256, help="of validation: long side, in px")
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    if asked.validate:
        return validate(asked.pictures, asked.size)
    if len(asked.files) != 3:
        parser.error("accepted: a picture, its photograph and its painting, or --validate")
    picture = read(asked.files[0])
    size = max(picture.shape)
    photograph, painting = (read(file, size) for file in asked.files[1:])
    if photograph.shape != picture.shape:
        height, width = picture.shape[:2]
        parser.error(f"{asked.files[1]} has other proportions than the picture, {width} x {height}")
    verdict = Judge(photograph, painting).verdict(picture)
    print(json.dumps(asdict(verdict) | {"score": verdict.score}, indent=1))
    return 0


def validate(folder: Path | None, size: int) -> int:
    right: Counter[str] = Counter()
    made: Counter[str] = Counter()
    for pair, judge, comparison in _known(folder, size):
        better, worse = comparison.values(judge)
        is_right = better < worse
        group = comparison.measure.partition(".")[0]
        made[group] += 1
        right[group] += is_right
        told = f"{comparison.measure:28} {comparison.name:28} {pair}"
        print(f"{'' if is_right else 'WRONG':6}{better:9.3f} {worse:9.3f}  {told}", flush=True)
    for group, count in made.items():
        print(f"{group}: {right[group]} of {count}")
    print(f"right: {right.total()} of {made.total()}")
    return 0 if right.total() >= RIGHT_MIN * made.total() else 1


def _known(folder: Path | None, size: int) -> Iterator[tuple[str, Judge, Comparison]]:
    trunks = Trunks()
    chosen = pairs(folder)
    for pair, following in zip(chosen, (*chosen[1:], chosen[0]), strict=True):
        photograph, painting = read(pair.content, size), read(pair.style, size)
        other = read(_another(pair, chosen, following), size)
        judge = Judge(photograph, painting, trunks)
        for comparison in comparisons(photograph, painting, other):
            yield pair.name, judge, comparison
        for comparison in peer_comparisons(photograph, painting):
            yield pair.name, judge, comparison
    face = read(portrait(), size)
    judge = Judge(face, painting, trunks)
    for comparison in face_comparisons(face):
        yield "portrait", judge, comparison


def _another(pair: Pair, chosen: list[Pair], following: Pair) -> Path:
    """A photograph that is not the pair's own."""
    others = (each.content for each in (following, *chosen) if each.content != pair.content)
    return next(others)


if __name__ == "__main__":
    sys.exit(main())
