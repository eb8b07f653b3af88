"""Passes on a GPU that is not there: torch's fake tensors have shapes and devices, and no values.

So what is checked is that nothing asks for a value, that nothing crosses between host and device,
and how convolutions are told to compute; what comes out is not.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from impasto.workers.engine.device import graphs
from impasto.workers.engine.layers import SHAPES, Precision
from impasto.workers.engine.network import pools
from impasto.workers.engine.network.vgg import Vgg, Weights
from impasto.workers.engine.optim import preconditioner
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.descent import Descent, step
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render
from tests.unit.workers.engine.streams import Races, capturing

PLAN = replace(PLAIN, init="noise", pyramid=1, tv_weight=1.0)
COMPANIES = {
    "one": [PLAN],
    "other optimisers": [PLAN, replace(PLAN, optimizer="adam"), replace(PLAN, init="style")],
    "normalised": [replace(PLAN, normalize_gradients=True)] * 2,
    "max": [replace(PLAN, pooling="max")],
    "three": [PLAN] * 3,
}


class Watch(TorchDispatchMode):
    """What is asked of devices.

    crossings: the operations between tensors of two devices; numbers of the host, (), are no such.
    cudnn: of each convolution: its dtype; whether it is tuned, repeatable, and in TF32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.crossings: list[str] = []
        self.cudnn: set[tuple[torch.dtype, bool, bool, bool]] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [
            t for t in tree_leaves((args, kwargs, found)) if isinstance(t, Tensor) and t.ndim
        ]
        if len({t.device for t in tensors}) > 1:
            self.crossings.append(str(func))
        if "convolution" in str(func):
            cudnn = torch.backends.cudnn
            told = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
            self.cudnn.add((found.dtype, *told))
        return found


@pytest.fixture
def no_values() -> Iterator[None]:
    library = torch.library.Library("aten", "IMPL", "Meta")
    library.impl("cudnn_convolution_relu", _convolved)  # torch knows no shape of it
    with FakeTensorMode():
        yield
    library._destroy()
    for made_once in (preconditioner._tent, pools._mean):
        made_once.cache_clear()


def _convolved(x: Tensor, weight: Tensor, bias: Tensor, *how: Any) -> Tensor:
    return torch.conv2d(x, weight, bias, *how).relu()


@pytest.fixture
def vgg(no_values: None) -> Vgg:
    tensors = {name: torch.empty(shape) for name, shape in SHAPES.items()}
    return Vgg(Weights("fake", "0" * 64, torch.empty(3), tensors), "cuda")


def descents(vgg: Vgg, plans: list[Plan], precision: Precision = "bfloat16") -> list[Descent]:
    """As they are once their starts are evaluated."""
    picture = torch.empty((64, 48, 3), dtype=torch.uint8)
    made = [
        Render(replace(plan, precision=precision), vgg, picture, [Style(picture)])._descent
        for plan in plans
    ]
    with mock.patch("torch.equal", return_value=False):  # asked for once: is the start the content?
        stepped(made)
    return made


def stepped(batch: list[Descent], budget_bytes: int | None = None) -> Tensor:
    """The losses of one step, (B, 4)."""
    (losses,) = step(batch, budget_bytes, lambda: None)
    return losses


@pytest.mark.parametrize("budget_bytes", [None, 2**20], ids=["whole", "strips"])
@pytest.mark.parametrize("plans", COMPANIES.values(), ids=COMPANIES)
def test_a_step_waits_for_nothing_and_stays_on_the_device(
    vgg: Vgg, plans: list[Plan], budget_bytes: int | None
) -> None:
    batch = descents(vgg, plans)
    with Watch() as watch:
        for _ in range(3):
            losses = stepped(batch, budget_bytes)
    assert watch.crossings == []
    assert losses.device.type == "cuda"
    with pytest.raises(DataDependentOutputException):
        losses[0, 0].item()  # it would have been seen


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("plans", COMPANIES.values(), ids=COMPANIES)
def test_branches_of_a_recorded_step_do_not_race(
    vgg: Vgg, plans: list[Plan], precision: Precision
) -> None:
    assert races(descents(vgg, plans, precision)) == set()


def test_branches_of_branches_would_race(vgg: Vgg) -> None:
    batch = descents(vgg, [PLAN] * 3)
    with mock.patch.object(graphs, "_may_branch", _always):
        found = races(batch)
    assert "aten.dot.default may get what aten.stack.default still uses" in found


def _always() -> bool:
    """Wherever a step is recorded."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def races(batch: list[Descent]) -> set[str]:
    """Of two recorded steps."""
    stepped(batch)  # which L-BFGS begins with
    with capturing() as cuda, Races(cuda) as seen:
        for _ in range(2):
            stepped(batch)
    return seen.found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_in_float32_are_repeatable_and_none_is_tuned_or_in_tf32(
    vgg: Vgg, precision: Precision
) -> None:
    batch = descents(vgg, [PLAN], precision)
    with Watch() as watch:
        stepped(batch)
    told = {(torch.float32, False, True, False)}  # L-BFGS convolves in it always
    if precision == "bfloat16":
        told.add((torch.bfloat16, False, False, False))
    assert watch.cudnn == told


def test_what_crosses_to_the_device_would_be_seen(vgg: Vgg) -> None:
    with Watch() as watch:
        torch.ones(2).to(vgg.device)
    assert len(watch.crossings) == 1
