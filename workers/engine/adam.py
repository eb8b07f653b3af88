"""Adam for images: many of them at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from workers.engine.optimizers import TINY, Evaluation, Optimizer, column, exact_dtype, stacked


class Adam(Optimizer):
    """Adam: each value moves by about the learning rate, in the image's units.

    Source: Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
    """

    def __init__(
        self, learning_rate: float = 10.0, betas: tuple[float, float] = (0.9, 0.99)
    ) -> None:
        self._learning_rate = learning_rate
        self._betas = betas
        # After an evaluation: how many, (), and means of the gradient and of its square.
        self._count: Tensor
        self._moments: tuple[Tensor, ...] = ()

    @staticmethod
    def update(
        optimizers: Sequence["Adam"], _before: Sequence[Evaluation | None], here: Evaluation
    ) -> None:
        gradients = torch.split(here.gradients, 1)
        for one in optimizers:
            if not one._moments:
                one._count = torch.zeros(
                    (), dtype=exact_dtype(here.images), device=here.images.device
                )
                one._moments = tuple(torch.zeros_like(gradients[0]) for _ in "12")
        torch._foreach_add_([one._count for one in optimizers], 1)
        firsts, seconds = zip(*(one._moments for one in optimizers), strict=True)
        first, second = optimizers[0]._betas
        # In place and all at once, as torch's own Adam does it; a GPU gets one call for each.
        torch._foreach_lerp_(firsts, gradients, 1 - first)
        torch._foreach_mul_(seconds, second)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1 - second)

    @staticmethod
    def step(optimizers: Sequence["Adam"], here: Evaluation) -> Tensor:
        firsts, seconds = map(stacked, zip(*(one._moments for one in optimizers), strict=True))
        # Both moments began at 0: after few gradients they are too small.
        counts = torch.stack([one._count for one in optimizers]).view(-1, 1, 1, 1)
        first, second = (1 - beta**counts for beta in optimizers[0]._betas)
        factors = column([one._learning_rate for one in optimizers], counts) / first
        sizes = (seconds / second.to(seconds.dtype)).sqrt_().add_(TINY)
        steps = (firsts * factors.to(firsts.dtype)).div_(sizes)
        return torch.sub(here.images, steps, out=steps)

    def growth_bytes(self, image: Tensor) -> int:
        return 0 if self._moments else 2 * image.nbytes

    def state_dict(self) -> dict[str, Tensor]:
        if not self._moments:
            return {}
        first, second = (moment.clone() for moment in self._moments)
        return {"count": self._count.clone(), "first": first, "second": second}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._moments = (state["first"].clone(), state["second"].clone()) if state else ()
        if state:
            self._count = state["count"].to(exact_dtype(state["first"]), copy=True)
