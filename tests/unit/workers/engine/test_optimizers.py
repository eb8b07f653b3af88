import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from workers.engine.optimizers import TINY, Adam, Lbfgs, Optimizer

Function = Callable[[Tensor], Tensor]


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def bowl(x: Tensor) -> Tensor:
    """A quadratic whose curvatures span a factor of a hundred; 0 at the origin."""
    return (torch.linspace(1, 100, x.numel(), dtype=x.dtype).view_as(x) * x**2).sum()


def gradient(function: Function, x: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


def ours(optimizer: Optimizer, function: Function, x: Tensor, steps: int) -> list[Tensor]:
    iterates = []
    for _ in range(steps):
        x = optimizer.step(x, gradient(function, x))
        iterates.append(x)
    return iterates


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


def start(size: int = 10, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(-1.5, 2, size, dtype=dtype)


@pytest.mark.parametrize("function", [rosenbrock, bowl])
@pytest.mark.parametrize("history", [3, 20])
def test_lbfgs_walks_where_torchs_walks(function: Function, history: int) -> None:
    """Whose first step is 1 in the sum of absolute values, so ours is 1/n in their mean."""
    x = start()
    lbfgs = Lbfgs(0.5, history=history, first_step=1 / x.numel(), longest_step=math.inf)
    expected = theirs(
        lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=1, history_size=history), function, x, 30
    )
    found = ours(lbfgs, function, x, 30)
    for ours_at, theirs_at in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_at, theirs_at, rtol=1e-6, atol=1e-8)


def test_lbfgs_finds_the_bottom_of_a_bowl() -> None:
    assert ours(Lbfgs(first_step=0.1), bowl, start(), 60)[-1].abs().max() < 1e-6


def test_adam_walks_where_torchs_walks() -> None:
    def adam(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.1, betas=(0.9, 0.99), eps=TINY)

    expected = theirs(adam, rosenbrock, start(), 50)
    found = ours(Adam(0.1), rosenbrock, start(), 50)
    for ours_at, theirs_at in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_at, theirs_at, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("make", [Lbfgs, Adam])
@pytest.mark.parametrize("before", [0, 1, 2, 9, 25])
def test_a_restored_optimizer_goes_on_to_the_bit(
    make: Callable[[], Optimizer], before: int
) -> None:
    first = make()
    reached = [start(50, torch.float32), *ours(first, bowl, start(50, torch.float32), before)][-1]
    second = make()
    second.load_state_dict({name: t.clone() for name, t in first.state_dict().items()})
    whole, resumed = ours(first, bowl, reached, 10), ours(second, bowl, reached, 10)
    assert all(map(torch.equal, whole, resumed))


@pytest.mark.parametrize("make", [Lbfgs, Adam])
def test_a_state_is_not_touched_by_later_steps(make: Callable[[], Optimizer]) -> None:
    optimizer = make()
    x = ours(optimizer, rosenbrock, start(), 5)[-1]
    state = optimizer.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    ours(optimizer, rosenbrock, x, 5)
    assert all(torch.equal(state[name], kept[name]) for name in kept)


@pytest.mark.parametrize("make", [Lbfgs, Adam])
def test_a_gradient_of_zeros_moves_nothing(make: Callable[[], Optimizer]) -> None:
    optimizer = make()
    x = start()
    for _ in range(3):
        assert torch.equal(optimizer.step(x, torch.zeros_like(x)), x)


@pytest.mark.parametrize("make", [Lbfgs, Adam])
def test_a_step_modifies_neither_image_nor_gradient(make: Callable[[], Optimizer]) -> None:
    optimizer = make()
    x, slope = start(), gradient(rosenbrock, start())
    kept = x.clone(), slope.clone()
    for _ in range(3):
        optimizer.step(x, slope)
    assert torch.equal(x, kept[0])
    assert torch.equal(slope, kept[1])


def test_lbfgs_remembers_no_more_than_its_history() -> None:
    optimizer = Lbfgs(0.5, history=4)
    ours(optimizer, bowl, start(), 10)
    assert optimizer.state_dict()["s"].shape == (4, 10)


def test_lbfgs_steps_down_where_the_loss_curves_downwards() -> None:
    """Where y . s < 0 a quasi-Newton step would climb; such a pair is not remembered."""

    def hill(x: Tensor) -> Tensor:
        return -(x**2).sum()

    losses = [hill(x).item() for x in ours(Lbfgs(first_step=0.1), hill, start(), 8)]
    assert losses == sorted(losses, reverse=True)


def test_the_first_step_of_lbfgs_has_the_size_that_was_asked_for() -> None:
    x = start()
    moved = Lbfgs(first_step=2.5).step(x, gradient(rosenbrock, x))
    assert (moved - x).abs().mean().item() == pytest.approx(2.5)


def test_no_step_of_lbfgs_is_longer_than_the_longest() -> None:
    x = start()
    iterates = [x, *ours(Lbfgs(first_step=0.01, longest_step=0.02), rosenbrock, x, 20)]
    lengths = [(after - before).abs().mean().item() for before, after in pairwise(iterates)]
    assert max(lengths) == pytest.approx(0.02)


@pytest.mark.parametrize("make", [Lbfgs, Adam])
def test_the_scale_of_the_loss_does_not_matter(make: Callable[[], Optimizer]) -> None:
    one, other = (
        ours(make(), lambda x, scale=scale: scale * bowl(x), start(), 10)[-1]
        for scale in (2.0**-60, 2.0**60)
    )
    torch.testing.assert_close(one, other)


def test_adam_moves_each_value_by_the_learning_rate_at_first() -> None:
    x = start()
    moved = Adam(7.0).step(x, gradient(rosenbrock, x))
    torch.testing.assert_close((moved - x).abs(), torch.full_like(x, 7.0))
