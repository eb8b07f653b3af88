"""The report's losses and total variation, each with its gradient: plain functions, no autograd.

Sources: Gatys, Ecker, Bethge 2015, "A Neural Algorithm of Artistic Style", arXiv:1508.06576;
Mahendran, Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them",
arXiv:1412.0035. Everything is added up in float32, whatever the features came in.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..device import operators

PIECE = 2**18  # values; 1024 px, bfloat16: a content loss and its gradient in 8 ms instead of 30


def gram_sum(features: Tensor) -> Tensor:
    """Channel co-occurrence of one layer, summed over its positions.

    features: (M, C), any float dtype.
    Returns (C, C), float32, or float64 from float64. Sums over strips add up; divide by M once.
    Source: eq. 3. They divide by M inside the loss; so do we, but each Gram by its own M, so that
    a style may have another size than the canvas.
    """
    if features.dtype == torch.bfloat16 and features.device.type == "cuda":
        return torch.mm(features.mT, features, out_dtype=torch.float32)
    is_on_cpu = features.device.type == "cpu"
    if features.dtype == torch.bfloat16 and is_on_cpu and operators.has_bfloat16():
        # The products are added up in float32, but given in bfloat16, which is off by 1e-3. So the
        # product is taken again, for what was left out: 2e-6, in half of a widened product's time.
        gram = features.mT @ features
        rest = torch.addmm(gram, features.mT, features, beta=-1)
        return gram.float().add_(rest)
    flat = accumulable(features)
    return flat.mT @ flat


def style_loss(difference: Tensor) -> Tensor:
    """1 / (4 N^2) * sum (G/M - A/M')^2.

    difference: (N, N), G/M - A/M': of Grams averaged over positions. Returns ().
    With M = M' this is eq. 4, 1 / (4 N^2 M^2) * sum (G - A)^2.
    Source: eq. 4.
    """
    size: Tensor = torch.linalg.vector_norm(difference)
    return size.square() / (4 * len(difference) ** 2)


def style_losses(differences: Sequence[Tensor]) -> Tensor:
    """`style_loss` of each, (n,): all at once, for which a GPU takes as long as for one."""
    sizes = operators.norms(differences)
    operators.scale(sizes, [1 / (2 * len(difference)) for difference in differences])
    return torch.stack(sizes).square()


def add_style_gradient(gradient: Tensor, features: Tensor, scaled: Tensor) -> None:
    """Adds the gradient of `style_loss` in the features that the Gram was taken of.

    gradient, features: (M, N). scaled: (N, N), the gradient's dtype: (G/M - A/M') / (N^2 M), with
    the loss's factors. Source: eq. 6, without its rectifier, which is the ReLU's own.
    """
    gradient.addmm_(features.to(gradient.dtype), scaled)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """1/2 * sum (F - P)^2.

    features, target: one shape. Returns ().
    Source: eq. 1; its gradient is F - P.
    """
    pieces = zip(_pieces(features), _pieces(target), strict=True)
    return torch.stack([_difference(*piece).square_().sum() for piece in pieces]).sum() / 2


def add_content_gradient(
    gradient: Tensor, features: Tensor, target: Tensor, factor: Tensor | float
) -> None:
    """Adds the gradient of `content_loss`, with a factor. One shape; gradient is contiguous."""
    for own, *piece in zip(*map(_pieces, (gradient, features, target)), strict=True):
        own.add_(_difference(*piece).mul_(factor))


def _difference(features: Tensor, target: Tensor) -> Tensor:
    """F - P in float32, or float64 from float64: a new tensor, and at most one."""
    wide = accumulable(features)
    return wide - target if wide is features else wide.sub_(target)


def _pieces(x: Tensor) -> Sequence[Tensor]:
    """On a CPU so small that what is computed of them stays in its caches."""
    return torch.split(x.view(-1), PIECE) if x.device.type == "cpu" else [x]


def tv_loss(image: Tensor, gradient: Tensor | None = None) -> Tensor:
    """Total variation: the squared differences of all horizontal and vertical neighbours.

    image: (3, H, W). gradient: (3, H, W), its own is written into it. Returns ().
    Source: Mahendran and Vedaldi, the regulariser V^beta with beta = 2.
    """
    if gradient is not None:
        gradient.zero_()
    # On a CPU the channels one by one, in a third of the memory.
    parts = range(len(image)) if image.device.type == "cpu" else [slice(None)]
    loss = image.new_zeros(())
    for part in parts:
        for dim in (-1, -2):
            steps = image[part].diff(dim=dim)
            if gradient is not None:
                count = steps.shape[dim]
                gradient[part].narrow(dim, 1, count).add_(steps, alpha=2)
                gradient[part].narrow(dim, 0, count).sub_(steps, alpha=2)
            loss = loss + torch.linalg.vector_norm(steps).square()
            del steps
    return loss


def accumulable(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
