"""Whether an image's last bits depend on where in memory it lies: next to others, or alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from impasto.workers.engine.device.alignment import BOUNDARY_BYTES, dot
from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.losses import content_loss, style_losses, tv_loss
from impasto.workers.engine.optim.lbfgs import Lbfgs, _Curvature, _mean_sizes, _Pairs
from impasto.workers.engine.optim.preconditioner import dots, smoothed_squares
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

HISTORY = 20
# None leaves the next image of a batch on a boundary; the last two are shared by several threads.
SIZES = [(1, 5), (9, 10), (33, 35), (141, 250)]
THREADS = [1, 2]
PLAN = replace(
    PLAIN,
    init="noise",
    pyramid=1,
    content_layers={"relu2_1": 1.0},
    style_layers={"relu1_1": 0.5, "relu1_2": 0.2, "relu2_1": 0.3},
)
PLANS = {
    "others": [PLAN, replace(PLAN, learning_rate=0.5), replace(PLAN, seed=7)],
    "normalised": [replace(PLAN, normalize_gradients=True, tv_weight=2.0, seed=s) for s in (1, 2)],
    "optimisers": [PLAN, replace(PLAN, optimizer="adam", learning_rate=9.0), PLAN],
    "three": [replace(PLAN, init="content", tv_weight=1.0)] * 3,
}
BLAS = {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "linalg_solve_triangular"}


def rows(count: int, height: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.manual_seed(seed)
    return 50 * torch.randn((count, 3 * height * width), generator=generator)


def moved(x: Tensor, by: int) -> Tensor:
    """A copy that begins so many values behind a boundary."""
    step = BOUNDARY_BYTES // x.itemsize
    room = torch.empty(x.numel() + 2 * step, dtype=x.dtype)
    first = -(room.data_ptr() // x.itemsize) % step + by
    return room[first : first + x.numel()].view(x.shape).copy_(x)


def history(image: Tensor) -> _Pairs:
    """A full one, for an image."""
    found = _Pairs.none(HISTORY, image)
    found.s.copy_(rows(HISTORY, 1, image.numel() // 3))
    found.moves.fill_(HISTORY)
    return found


def products(image: Tensor) -> Tensor:
    known = history(image)
    return known.products(known.s, image)


def added(image: Tensor) -> Tensor:
    known = history(image)
    known.add(known.s, torch.linspace(-1, 2, HISTORY), image)
    return image


# Of images at one address after the other, (1, 3, H, W): all that adds up what a batch lies beside.
SUMS: dict[str, Callable[[Tensor], Tensor]] = {
    "dot": lambda x: dot(x.flatten(), x.flatten()),
    "dots": lambda x: dots(x, x.clone()),
    "smoothed squares": lambda x: smoothed_squares(x, 4),
    "mean size": _mean_sizes,
    "products": products,
    "sum of rows": added,
    "total variation": lambda x: tv_loss(x[0]),
    "norm": lambda x: x[0].norm(),
    "content loss": lambda x: content_loss(x, torch.zeros_like(x)),
    "style losses": lambda x: style_losses([x[0, 0]]),
}


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", THREADS)
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", SUMS)
def test_a_sum_does_not_depend_on_where_its_terms_lie(
    name: str, size: tuple[int, int], count: int
) -> None:
    image = rows(1, *size).view(1, 3, *size)
    with threads(count):
        found = [SUMS[name](moved(image, by)).clone() for by in range(17)]
    assert [by for by, each in enumerate(found) if not torch.equal(each, found[0])] == []


@pytest.mark.parametrize("is_upper", [True, False])
@pytest.mark.parametrize("history", [1, 3, 7, 20])
def test_two_triangular_systems_do_not_depend_on_those_beside_them(
    history: int, is_upper: bool
) -> None:
    """Each in a batch of five as alone; an odd matrix of float64 ends between two boundaries."""
    generator = torch.manual_seed(2)
    triangles = torch.randn((5, history, history), generator=generator, dtype=torch.float64).triu()
    numbers = dict.fromkeys(_Curvature._fields, torch.ones(5, 1, 1, 1)) | {
        "curved": torch.ones(5, history, dtype=torch.float64),
        "sy": triangles + 4 * torch.eye(history, dtype=torch.float64),
    }
    known = _Curvature(**numbers)
    products = torch.randn((5, history), generator=generator)
    together = known.solved(products, is_upper=is_upper)
    for b in range(3):
        one = _Curvature(*(numbers[b : b + 1].clone() for numbers in known))
        alone = one.solved(products[b : b + 1].clone(), is_upper=is_upper)
        assert torch.equal(together[b : b + 1], alone)


class Watch(TorchDispatchMode):
    """Notes which calls of BLAS are given what does not begin on a boundary."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.misaligned: list[tuple[str, list[tuple[int, ...]]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in BLAS:
            tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
            self.seen.add(name)
            if not all(map(begins_on_boundaries, tensors)):
                self.misaligned.append((name, [tuple(x.shape) for x in tensors]))
        return func(*args, **(kwargs or {}))


def begins_on_boundaries(x: Tensor) -> bool:
    """The first of its vectors or matrices, and each after it."""
    apart_bytes = x.stride(0) * x.itemsize if x.ndim == 3 and len(x) > 1 else 0
    return (x.data_ptr() | apart_bytes) % BOUNDARY_BYTES == 0


def renders(vgg: Vgg, plans: Sequence[Plan], size: tuple[int, int], style: Tensor) -> list[Render]:
    """Of different pictures, some with a mask, at a size of which no two images fit a boundary."""
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    half = torch.where(x < width // 2, 255, 0).to(torch.uint8)
    found = []
    for i, plan in enumerate(plans):
        content = torch.stack([3 * x + i, 2 * y + 40 * i, x + y], dim=2).remainder(256)
        styles = [Style(style), Style(style[:, : 60 - i], mask=half)][: 1 + i % 2]
        found.append(Render(plan, vgg, content.to(torch.uint8), styles))
    return found


@pytest.mark.parametrize("plans", PLANS.values(), ids=PLANS)
def test_every_product_of_a_step_begins_on_a_boundary(
    vgg: Vgg, plans: list[Plan], style: Tensor
) -> None:
    """Whatever a processor's library makes of it: what is on a boundary is added up in one way."""
    batch, watch = renders(vgg, plans, (33, 35), style), Watch()
    for _ in range(4):
        with watch:
            errors = Render.step_together(batch)
        assert errors == [None] * len(batch)
    assert {"dot", "mv", "addmv", "linalg_solve_triangular", "mm", "bmm"} <= watch.seen
    assert watch.misaligned == []


@pytest.mark.parametrize(
    ("name", "size", "count"),
    [*((name, (33, 35), 1) for name in PLANS), ("optimisers", (105, 107), 2)],
    ids=str,
)
def test_a_picture_is_the_same_in_any_batch_to_the_bit(
    vgg: Vgg, name: str, size: tuple[int, int], count: int, style: Tensor
) -> None:
    with threads(count):
        together = renders(vgg, PLANS[name], size, style)
        for _ in range(3):
            Render.step_together(together)
        for render, alone in zip(together, renders(vgg, PLANS[name], size, style), strict=True):
            for _ in range(3):
                alone.step()
            assert torch.equal(render.image(), alone.image())
            assert render.progress.losses == alone.progress.losses


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_is_remembered_lies_on_boundaries(size: tuple[int, int]) -> None:
    """So that an image alone is multiplied with nothing but what lies there, and nothing copied."""
    known = _Pairs.none(3, torch.empty(1, 3, *size))
    assert all(begins_on_boundaries(row) for row in (*known.s, *known.y))
    assert Lbfgs(history=3).growth_bytes(torch.empty(1, 3, *size)) == 6 * 4 * 3 * size[0] * size[1]
