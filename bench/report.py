"""The recipe `report` beside a plain float64 implementation: `python -m bench.report`.

Torch's autograd on torch's own layers, from the same noise, with the same moves in float64.
Rounding grows along the way: what is compared is how far each has come.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

from bench import vgg
from bench.judge.judge import read, to_image
from bench.own import Renderer
from bench.pictures import twelve
from bench.vgg import PlainVgg
from impasto.workers.engine.optim.optimizers import Evaluation
from impasto.workers.engine.plan import Plan
from impasto.workers.engine.render.memory_estimate import make_optimizer
from impasto.workers.engine.render.pictures import clamped, noise


class Plain:
    """The report's loss and its gradient, float64."""

    def __init__(self, plain: PlainVgg, plan: Plan, content: Tensor, style: Tensor) -> None:
        self._vgg, self._plan = plain, plan
        with torch.no_grad():
            self._content = plain.features(content, list(plan.content_layers))
            of_style = plain.features(style, list(plan.style_layers))
            self._style = {name: _gram(features) for name, features in of_style.items()}

    def __call__(self, image: Tensor) -> tuple[Tensor, Evaluation]:
        plan, x = self._plan, image.clone().requires_grad_()
        features = self._vgg.features(x, [*plan.content_layers, *plan.style_layers])
        total = x.new_zeros(())
        for name, weight in plan.content_layers.items():
            loss = (features[name] - self._content[name]).square().sum() / 2
            total = total + plan.content_weight * weight * loss
        for name, weight in plan.style_layers.items():
            gram = _gram(features[name])
            loss = (gram - self._style[name]).square().sum() / (4 * len(gram) ** 2)
            total = total + plan.style_weight * weight * loss
        (gradient,) = torch.autograd.grad(total, x)
        return total.detach(), Evaluation(image, gradient)


def _gram(features: Tensor) -> Tensor:
    flat = features[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="report", description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path, required=True, help="the folder of the pairs")
    parser.add_argument("--pair", type=int, default=2, help="which of the twelve, from 0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=100)
    asked = parser.parse_args()
    pair, renderer = twelve(asked.pictures)[asked.pair], Renderer()
    fields = {"size": asked.size, "iterations": asked.iterations, "precision": "float32"}
    render = renderer.begun(renderer.spec(pair.content, pair.style, recipe="report", **fields))
    plan = render.plan
    weights = vgg.load()
    exact = PlainVgg({n: t.double() for n, t in weights.tensors.items()}, weights.mean.double())
    content, style = (to_image(read(file, asked.size)).double() for file in pair)
    evaluated = Plain(exact, plan, content, style)

    found = render.step().losses.total
    optimizer = make_optimizer(plan, content.float())
    least, last = evaluated(noise(*content.shape[-2:], plan.seed).double())
    type(optimizer).update([optimizer], [None], last, [torch.tensor(False)])
    for iteration in range(asked.iterations + 1):
        if iteration:
            found = render.step().losses.total
            total, here = evaluated(clamped(type(optimizer).step([optimizer], last)))
            before, is_worse = [last], [total > least]
            (goes_on,) = type(optimizer).update([optimizer], before, here, is_worse)
            last = here if goes_on else last
            least = torch.minimum(least, total)
        if iteration % 10 == 0:
            apart = found / float(least) - 1
            print(f"{iteration:5} {found:.5g} {float(least):.5g} {apart:+.4%}", flush=True)


if __name__ == "__main__":
    main()
