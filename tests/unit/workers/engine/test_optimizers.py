import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from impasto.workers.engine.optim.adam import Adam
from impasto.workers.engine.optim.lbfgs import Lbfgs
from impasto.workers.engine.optim.optimizers import TINY, Evaluation, Optimizer
from tests.unit.workers.engine.test_preconditioner import by_octaves

Function = Callable[[Tensor], Tensor]
Make = Callable[[], Optimizer]
MAKES: list[Make] = [Lbfgs, Adam]
BETTER, WORSE = torch.tensor(False), torch.tensor(True)


def rosenbrock(x: Tensor) -> Tensor:
    x = x.flatten()
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def bowl(x: Tensor) -> Tensor:
    """A quadratic whose curvatures span a factor of a hundred; 0 at the origin."""
    return (torch.linspace(1, 100, x.numel(), dtype=x.dtype).view_as(x) * x**2).sum()


def gradient(function: Function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


class Walk:
    """Images on their way, each with its optimiser: as an engine moves them, without bounds.

    is_guarded: tells the optimisers whose loss rose, and goes back where they say so.
    """

    def __init__(
        self,
        optimizers: list[Optimizer],
        function: Function,
        x: Tensor,
        last: Evaluation | None = None,
        *,
        is_guarded: bool = False,
    ) -> None:
        self.optimizers = optimizers
        self._kind = type(optimizers[0])
        self._function = function
        self._is_guarded = is_guarded
        self.last = last or self._evaluated(x, [None] * len(x))

    def step(self) -> Tensor:
        x = self._kind.step(self.optimizers, self.last)
        self.last = self._evaluated(x, list(self.last.split()))
        return x

    def _evaluated(self, x: Tensor, before: Sequence[Evaluation | None]) -> Evaluation:
        slopes = [gradient(self._function, each[None]) for each in x]
        here = Evaluation(x, torch.cat(slopes))
        worse = [self._is_worse(*each) for each in zip(x, before, strict=True)]
        going_on = self._kind.update(self.optimizers, before, here, worse)
        return Evaluation.of(
            [
                own if goes_on or last is None else last
                for own, last, goes_on in zip(here.split(), before, going_on, strict=True)
            ]
        )

    def _is_worse(self, x: Tensor, before: Evaluation | None) -> Tensor:
        if not self._is_guarded or before is None:
            return BETTER
        return self._function(x[None]) > self._function(before.images)


def ours(optimizer: Optimizer, function: Function, x: Tensor, steps: int) -> list[Tensor]:
    walk = Walk([optimizer], function, x)
    return [walk.step() for _ in range(steps)]


def theirs(
    make: Callable[[list[Tensor]], torch.optim.Optimizer], function: Function, x: Tensor, steps: int
) -> list[Tensor]:
    x = x.clone().requires_grad_()
    optimizer = make([x])

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = function(x)
        loss.backward()
        return loss

    iterates = []
    for _ in range(steps):
        optimizer.step(closure)
        iterates.append(x.detach().clone())
    return iterates


def start(
    height: int = 5, width: int = 7, dtype: torch.dtype = torch.float64, channels: int = 3
) -> Tensor:
    """(1, channels, height, width), of sides that halve once and leave a row and a column out."""
    values = torch.linspace(-1.5, 2, channels * height * width, dtype=dtype)
    return values.view(1, channels, height, width)


class TwoLoops:
    """Nocedal and Wright's algorithms 7.4 and 7.5 as they are printed, in float64."""

    def __init__(
        self,
        learning_rate: float,
        history: int,
        first_step: float,
        longest_step: float,
        levels: int,
    ) -> None:
        self.learning_rate = learning_rate
        self.history = history
        self.first_step = first_step
        self.longest_step = longest_step
        self.levels = levels
        self.seen: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self.pairs = self.seen
        self.shown: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def step(self, image: Tensor, gradient: Tensor) -> Tensor:
        x, g = image.double().numpy(), gradient.double().numpy()
        if self.shown is not None:
            s, y = x - self.shown[0], g - self.shown[1]
            self.seen = [*self.seen, (s, y)][-self.history :]
            self.pairs = [(s, y) for s, y in self.seen if (s * y).sum() > 0]
        self.shown = x, g
        step = self.learning_rate * self.direction(g)
        return torch.from_numpy(x - step * min(1.0, self.longest_step / np.abs(step).mean()))

    def direction(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.pairs:
            direction = by_octaves(gradient, self.levels)
            return direction * self.first_step / np.abs(direction).mean()
        q, alphas = gradient, []
        for s, y in reversed(self.pairs):
            alphas.append((s * q).sum() / (s * y).sum())
            q = q - alphas[-1] * y
        s, y = self.pairs[-1]
        r = by_octaves(q, self.levels) * (s * y).sum() / (y * by_octaves(y, self.levels)).sum()
        for (s, y), alpha in zip(self.pairs, reversed(alphas), strict=True):
            r = r + s * (alpha - (y * r).sum() / (s * y).sum())
        return r


@pytest.mark.parametrize("function", [rosenbrock, bowl])
@pytest.mark.parametrize("history", [3, 20])
def test_lbfgs_walks_where_torchs_walks(function: Function, history: int) -> None:
    """Whose first step is 1 in the sum of absolute values, so ours is 1/n in their mean."""
    x = start(2, 5, channels=1)
    lbfgs = Lbfgs(0.5, history=history, first_step=1 / x.numel(), longest_step=math.inf, levels=0)
    expected = theirs(
        lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=1, history_size=history), function, x, 30
    )
    found = ours(lbfgs, function, x, 30)
    for ours_at, theirs_at in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_at, theirs_at, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("levels", [0, 4])
@pytest.mark.parametrize("history", [1, 3, 20])
@pytest.mark.parametrize("longest_step", [0.02, math.inf])
def test_lbfgs_walks_where_two_loops_walk(levels: int, history: int, longest_step: float) -> None:
    """Of 25 steps, so that each history but the longest is overwritten several times."""
    settings = {
        "history": history,
        "first_step": 0.01,
        "longest_step": longest_step,
        "levels": levels,
    }
    x, reference = start(13, 18), TwoLoops(0.8, **settings)
    for found in ours(Lbfgs(0.8, **settings), bowl, x, 25):
        x = reference.step(x, gradient(bowl, x))
        torch.testing.assert_close(found, x, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("levels", [0, 4])
def test_a_step_in_float32_is_that_of_two_loops_in_float64(levels: int) -> None:
    """Each step from the same images and gradients; 40 of them wrap the history once."""
    settings = {"history": 20, "first_step": 0.01, "longest_step": math.inf, "levels": levels}
    walk = Walk([Lbfgs(**settings)], bowl, start(13, 18, torch.float32))
    reference = TwoLoops(1.0, **settings)
    for _ in range(40):
        x, slope = walk.last
        expected = reference.step(x, slope)
        error = (walk.step() - expected).norm() / (expected - x).norm()
        assert error < 1e-3  # the images' own rounding is in it: late steps are small


def test_lbfgs_finds_the_bottom_of_a_bowl() -> None:
    assert ours(Lbfgs(first_step=0.1), bowl, start(), 100)[-1].abs().max() < 1e-6


def test_adam_walks_where_torchs_walks() -> None:
    def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.1, betas=(0.9, 0.99), eps=TINY)

    expected = theirs(adam, rosenbrock, start(), 50)
    found = ours(Adam(0.1), rosenbrock, start(), 50)
    for ours_at, theirs_at in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_at, theirs_at, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [Lbfgs, lambda: Lbfgs(history=4, levels=0), Adam])
@pytest.mark.parametrize("before", [0, 1, 2, 5, 9, 25])
def test_a_restored_optimizer_goes_on_to_the_bit(make: Make, before: int) -> None:
    """Before the first displacement, with a part of the history, and after it was overwritten.

    Of the first steps some are taken back.
    """
    first = Walk([make()], bowl, start(9, 10, torch.float32), is_guarded=True)
    for _ in range(before):
        first.step()
    restored = make()
    restored.load_state_dict(
        {name: t.clone() for name, t in first.optimizers[0].state_dict().items()}
    )
    second = Walk([restored], bowl, first.last.images, first.last, is_guarded=True)
    assert all(torch.equal(first.step(), second.step()) for _ in range(10))
    states = first.optimizers[0].state_dict(), restored.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


COMPANIES: dict[str, list[Make]] = {
    "lbfgs": [Lbfgs, lambda: Lbfgs(0.5), lambda: Lbfgs(2.0)],
    "adam": [Adam, lambda: Adam(3.0), Adam],
}


@pytest.mark.parametrize("makes", COMPANIES.values(), ids=COMPANIES)
@pytest.mark.parametrize("size", [(9, 10), (64, 37), (141, 250)])
def test_an_image_moves_the_same_in_any_batch_to_the_bit(
    makes: list[Make], size: tuple[int, int]
) -> None:
    """Of other images, with other learning rates, and with more and with less behind them.

    The first of them starts so near the bottom that steps of it are taken back.
    """
    images = torch.rand((len(makes), 3, *size), generator=torch.manual_seed(3)) * 255
    images[0] /= 100
    walk = partial(Walk, is_guarded=True)
    alone = [walk([make()], bowl, x[None]) for make, x in zip(makes, images, strict=True)]
    mixed = [walk([make()], bowl, x[None]) for make, x in zip(makes, images, strict=True)]
    for already, walks in enumerate(zip(alone, mixed, strict=True)):
        for _ in range(4 * already):
            assert torch.equal(*(one.step() for one in walks))
    together = walk(
        [one.optimizers[0] for one in mixed],
        bowl,
        images,
        Evaluation.of([one.last for one in mixed]),
    )
    for _ in range(25):
        found = together.step()
        for image, one in zip(found, alone, strict=True):
            assert torch.equal(image, one.step()[0])


def test_an_image_that_is_lost_leaves_its_batch_untouched() -> None:
    """Where a loss is not a number, so is all that comes of it."""
    images = torch.rand((2, 3, 20, 30), generator=torch.manual_seed(4))
    images[1, 0, 3, 4] = math.nan
    alone, together = Walk([Lbfgs()], bowl, images[:1]), Walk([Lbfgs(), Lbfgs()], bowl, images)
    for _ in range(8):
        found = together.step()
        assert torch.equal(found[:1], alone.step())
        assert found[1].isnan().any()


@pytest.mark.parametrize("make", MAKES)
def test_a_state_is_not_touched_by_later_steps(make: Make) -> None:
    optimizer = make()
    x = ours(optimizer, rosenbrock, start(), 5)[-1]
    state = optimizer.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    ours(optimizer, rosenbrock, x, 5)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@pytest.mark.parametrize("make", MAKES)
def test_a_gradient_of_zeros_moves_nothing(make: Make) -> None:
    walk = Walk([make()], lambda x: 0 * x.sum(), start())
    for _ in range(3):
        assert torch.equal(walk.step(), start())


@pytest.mark.parametrize("make", MAKES)
def test_a_step_modifies_neither_evaluation_nor_memory(make: Make) -> None:
    walk = Walk([make()], rosenbrock, start())
    for _ in range(3):
        kept = [each.clone() for each in walk.last]
        moved = walk._kind.step(walk.optimizers, walk.last)
        last = walk.last
        assert torch.equal(walk.step(), moved)  # asked twice, it says the same
        assert all(map(torch.equal, last, kept))


def test_lbfgs_remembers_no_more_than_its_history() -> None:
    optimizer = Lbfgs(0.5, history=4)
    ours(optimizer, bowl, start(), 10)
    assert optimizer.state_dict()["s"].shape == (4, 105)


@pytest.mark.parametrize(("make", "least_steps"), [(lambda: Lbfgs(0.5, history=4), 5), (Adam, 1)])
def test_what_a_state_will_still_take_is_known(make: Make, least_steps: int) -> None:
    """Less with each step that is remembered, until all places are taken."""
    optimizer, x = make(), start()
    at_first = optimizer.growth_bytes(x)
    x = ours(optimizer, bowl, x, least_steps)[-1]
    state = optimizer.state_dict()
    remembered = [state[name] for name in ("s", "y", "first", "second") if name in state]
    assert sum(tensor.nbytes for tensor in remembered) == at_first
    assert optimizer.growth_bytes(x) == 0


def test_lbfgs_steps_down_where_the_loss_curves_downwards() -> None:
    """Where y . s < 0 a quasi-Newton step would climb; such a pair is not remembered."""

    def hill(x: Tensor) -> Tensor:
        return -(x**2).sum()

    losses = [hill(x).item() for x in ours(Lbfgs(first_step=0.1), hill, start(), 8)]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("levels", [0, 4])
def test_a_displacement_without_curvature_counts_for_nothing(levels: int) -> None:
    """The next step is as if there had been none, until ones that curve upwards follow."""
    lbfgs = Lbfgs(first_step=0.1, levels=levels)
    walk = Walk([lbfgs], bowl, start())
    walk.step()
    walk.step()
    image, slope = walk.last
    nothing = [
        (image, slope),  # no displacement at all: every value was at its bound
        (image + 1, slope - 1),  # curved downwards
        (image + 2, slope - 1),  # not curved
    ]
    last, kept = walk.last, lbfgs.state_dict()
    expected = Lbfgs.step([lbfgs], walk.last) - image
    for x, g in nothing:
        Lbfgs.update([lbfgs], [last], Evaluation(x, g), [BETTER])
        last = Evaluation(x, g)
        found = Lbfgs.step([lbfgs], Evaluation(image, slope)) - image
        torch.testing.assert_close(found, expected)
    state = lbfgs.state_dict()
    assert state["curved"].tolist() == [*kept["curved"].tolist()[3:], 0, 0, 0]
    Lbfgs.update([lbfgs], [last], Evaluation(image + 3, slope), [BETTER])
    assert lbfgs.state_dict()["curved"][-1] == 1


def test_a_memory_of_nothing_but_downhill_curvature_begins_anew() -> None:
    x = start()
    lbfgs = Lbfgs(first_step=2.5)
    Lbfgs.update([lbfgs], [Evaluation(x, x)], Evaluation(x + 1, x - 1), [BETTER])
    moved = Lbfgs.step([lbfgs], Evaluation(x, gradient(rosenbrock, x)))
    assert (moved - x).abs().mean().item() == pytest.approx(2.5)


def test_the_first_step_of_lbfgs_has_the_size_that_was_asked_for() -> None:
    x = start()
    (moved,) = ours(Lbfgs(first_step=2.5), rosenbrock, x, 1)
    assert (moved - x).abs().mean().item() == pytest.approx(2.5)


def test_no_step_of_lbfgs_is_longer_than_the_longest() -> None:
    x = start()
    iterates = [x, *ours(Lbfgs(first_step=0.01, longest_step=0.02), rosenbrock, x, 20)]
    lengths = [(after - before).abs().mean().item() for before, after in pairwise(iterates)]
    assert max(lengths) == pytest.approx(0.02)


@pytest.mark.parametrize("make", MAKES)
def test_the_scale_of_the_loss_does_not_matter(make: Make) -> None:
    one, other = (
        ours(make(), lambda x, scale=scale: scale * bowl(x), start(), 10)[-1]
        for scale in (2.0**-60, 2.0**60)
    )
    torch.testing.assert_close(one, other)


def test_adam_moves_each_value_by_the_learning_rate_at_first() -> None:
    x = start()
    (moved,) = ours(Adam(7.0), rosenbrock, x, 1)
    torch.testing.assert_close((moved - x).abs(), torch.full_like(x, 7.0))


NEAR = 1e-3  # of `start`: a first step of 10 or so is thousands of times too long


@pytest.mark.parametrize("make", MAKES)
def test_a_start_near_the_bottom_gets_nearer(make: Make) -> None:
    """Adam, which knows no curvature, is 130 times above it after 30 steps without a guard."""
    x = NEAR * start()
    walk = Walk([make()], bowl, x, is_guarded=True)
    tried = [bowl(walk.step()) for _ in range(30)]
    assert tried[0] > 1e3 * bowl(x)
    assert min(tried) < 0.9 * bowl(x)


def test_lbfgs_shortens_what_follows_a_step_that_was_taken_back() -> None:
    """And learns by it: along what it has seen a bowl's second step is right, not only shorter."""
    x = NEAR * start()
    walk = Walk([Lbfgs(first_step=8.0, longest_step=8.0)], bowl, x, is_guarded=True)
    assert (walk.step() - x).abs().mean().item() == pytest.approx(8.0)
    assert torch.equal(walk.last.images, x)
    moved = walk.step()
    assert (moved - x).abs().mean() < 8.0 / 4
    assert bowl(moved) < 1e-3 * bowl(x + 1)


def test_steps_of_lbfgs_may_grow_again_after_a_good_one() -> None:
    lbfgs, x, flat = Lbfgs(first_step=8.0, longest_step=8.0), start(), torch.ones_like(start())
    last = Evaluation(x, flat)
    Lbfgs.update([lbfgs], [None], last, [BETTER])
    lengths = []
    for worse in (WORSE, WORSE, BETTER, BETTER, BETTER, BETTER):  # of a plane, without curvature
        moved = Lbfgs.step([lbfgs], last)
        lengths.append((moved - x).abs().mean().item())
        (goes_on,) = Lbfgs.update([lbfgs], [last], Evaluation(moved, flat), [worse])
        assert bool(goes_on) is not bool(worse)
    assert lengths == pytest.approx([8.0, 2.0, 0.5, 1.0, 2.0, 4.0])


def test_adam_forgets_a_first_step_that_was_taken_back_and_goes_a_quarter_as_far() -> None:
    adam, plain = Adam(8.0), Adam(2.0)
    x = start()
    here, there = Evaluation(x, gradient(bowl, x)), Evaluation(-x, gradient(bowl, -x))
    for one in (adam, plain):
        Adam.update([one], [None], here, [BETTER])
    (goes_on,) = Adam.update([adam], [here], there, [WORSE])
    assert not goes_on
    assert torch.equal(Adam.step([adam], here), Adam.step([plain], here))


def test_adam_takes_no_later_step_back() -> None:
    adam, x = Adam(), start()
    here = Evaluation(x, gradient(bowl, x))
    Adam.update([adam], [None], here, [BETTER])
    for worse in (BETTER, WORSE, WORSE):
        (goes_on,) = Adam.update([adam], [here], here, [worse])
        assert goes_on
