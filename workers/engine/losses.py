"""The report's losses, and total variation: plain functions of features and images.

Sources: Gatys, Ecker, Bethge 2015, "A Neural Algorithm of Artistic Style", arXiv:1508.06576;
Mahendran, Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them",
arXiv:1412.0035. Everything is added up in float32, whatever the features came in.
"""

import torch
from torch import Tensor

from workers.engine.errors import ShapeError


def gram(features: Tensor) -> Tensor:
    """Channel co-occurrence of one layer, averaged over its positions: G / M.

    features: (B, C, H, W), any float dtype and device; the gradient flows.
    Returns (B, C, C), float32, or float64 from float64.
    Raises ShapeError if there is no position to average over.
    Source: eq. 3. They divide by M inside the loss; so do we, but each Gram by its own M, so that
    a style may have another size than the canvas.
    """
    positions = features.shape[-2] * features.shape[-1]
    if positions == 0:
        raise ShapeError(f"features of shape {tuple(features.shape)} have no positions")
    flat = _accumulable(features).flatten(2)  # (B, C, M)
    return flat @ flat.mT / positions


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """1/2 * sum (F - P)^2, for each image of the batch.

    features, target: (B, C, H, W); target may be (1, C, H, W).
    Returns (B,).
    Raises ShapeError if they differ in more than the batch.
    Source: eq. 1.
    """
    if features.shape[1:] != target.shape[1:]:
        raise ShapeError(
            f"features of shape {tuple(features.shape)} have no target"
            f" in {tuple(target.shape)}: content and canvas must be of one size"
        )
    return (_accumulable(features) - _accumulable(target)).square().sum((1, 2, 3)) / 2


def style_loss(grams: Tensor, targets: Tensor) -> Tensor:
    """1 / (4 N^2) * sum (G/M - A/M')^2, for each Gram of the batch.

    grams, targets: (B, N, N), averaged over positions as `gram` does; either may have B = 1.
    Returns (B,). With M = M' this is eq. 4, 1 / (4 N^2 M^2) * sum (G - A)^2.
    Source: eq. 4.
    """
    channels = grams.shape[-1]
    return (grams - targets).square().sum((1, 2)) / (4 * channels**2)


def tv_loss(image: Tensor) -> Tensor:
    """Total variation: the squared differences of all horizontal and vertical neighbours.

    image: (B, 3, H, W). Returns (B,).
    Source: Mahendran and Vedaldi, the regulariser V^beta with beta = 2.
    """
    across = image[..., :, 1:] - image[..., :, :-1]
    down = image[..., 1:, :] - image[..., :-1, :]
    return across.square().sum((1, 2, 3)) + down.square().sum((1, 2, 3))


def _accumulable(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
