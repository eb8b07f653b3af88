"""Torch without the operators that it does not promise: the same pictures, by public ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impasto.workers.engine.device import operators
from impasto.workers.engine.layers import Pooling
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

PLAN = replace(PLAIN, iterations=4, init="noise", pyramid=1, tv_weight=1.0)
NAMES = ("avg_pool2d", "bfloat16", "cudnn", "foreach", "max_pool2d", "onednn", "threshold_backward")


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Takes one of them away, or all."""

    def taken(name: str) -> None:
        gone = NAMES if name == "all of them" else (name,)
        monkeypatch.setattr(operators, "FOUND", operators.FOUND - set(gone))

    return taken


def rendered(vgg: Vgg, plan: Plan, content: Tensor, style: Tensor) -> tuple[Tensor, float]:
    render = Render(plan, Vgg(vgg.weights), content, [Style(style)])
    while not render.is_finished:
        render.step()
    return render.image(), render.progress.losses.total


@pytest.mark.parametrize("pooling", ["avg", "max"])
@pytest.mark.parametrize("name", [*NAMES, "all of them"])
def test_without_it_a_render_is_the_same(
    vgg: Vgg,
    content: Tensor,
    style: Tensor,
    *,
    pooling: Pooling,
    name: str,
    take: Callable[[str], None],
) -> None:
    plan = replace(PLAN, pooling=pooling)
    odd = content[:59, :63]  # a row and a column before some pools
    expected, loss = rendered(vgg, plan, odd, style)
    take(name)

    found, found_loss = rendered(vgg, plan, odd, style)

    assert found_loss == pytest.approx(loss, rel=1e-4)
    assert (found - expected).abs().max() < 0.05


@pytest.mark.parametrize("name", [*NAMES, "all of them"])
def test_without_it_bfloat16_goes_on(
    vgg: Vgg, content: Tensor, style: Tensor, name: str, take: Callable[[str], None]
) -> None:
    _, expected = rendered(vgg, PLAN, content, style)
    take(name)

    _, loss = rendered(vgg, replace(PLAN, precision="bfloat16"), content, style)

    assert loss == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("module", "operator", "name"),
    [
        (torch.ops.aten, "threshold_backward", "threshold_backward"),
        (torch.ops.aten, "avg_pool2d", "avg_pool2d"),
        (torch.ops.aten, "max_pool2d_with_indices_backward", "max_pool2d"),
        (torch.ops.aten, "mkldnn_reorder_conv2d_weight", "onednn"),
        (torch.ops.mkldnn, "_convolution_pointwise", "onednn"),
        (torch.ops.mkldnn, "_convolution_pointwise_", "onednn"),
        (torch, "_foreach_copy_", "foreach"),
        (torch, "_foreach_div_", "foreach"),
        (torch, "_foreach_mul", "foreach"),
        (torch, "_foreach_mul_", "foreach"),
        (torch, "_foreach_norm", "foreach"),
        (torch, "_foreach_sub", "foreach"),
    ],
)
def test_one_of_other_arguments_counts_as_missing(
    module: object, operator: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(*_: object, **__: object) -> None:
        raise TypeError("takes other arguments")

    monkeypatch.setattr(module, operator, other)

    assert operators.find() == operators.FOUND - {name}


def test_one_that_gives_something_else_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_foreach_mul", lambda tensors, _: [one + 1 for one in tensors])

    assert operators.find() == operators.FOUND - {"foreach"}


def test_all_are_there_in_the_torch_that_is_installed() -> None:
    """Else we would be slower than we say; what oneDNN has depends on the processor."""
    assert set(NAMES) - operators.FOUND <= {"bfloat16", "onednn"}
