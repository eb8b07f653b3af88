import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from workers.engine.errors import ShapeError
from workers.engine.losses import content_loss, gram, style_loss, tv_loss


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_gram_of_ones_is_ones() -> None:
    assert torch.equal(gram(torch.ones(2, 3, 4, 5)), torch.ones(2, 3, 3))


def test_the_gram_of_channels_that_never_meet_is_diagonal() -> None:
    apart = torch.zeros(1, 4, 2, 2)
    for channel in range(4):
        apart[0, channel, channel // 2, channel % 2] = channel
    assert torch.equal(gram(apart)[0], torch.diag(torch.arange(4.0) ** 2) / 4)


def test_the_grams_of_tiles_add_up_to_the_gram_of_the_whole() -> None:
    whole = features(1, 5, 6, 8)
    tiles = [tile for row in whole.split(4, dim=2) for tile in row.split(5, dim=3)]
    total = sum(gram(tile) * tile[0, 0].numel() for tile in tiles)
    torch.testing.assert_close(total, gram(whole) * 48)


def test_a_gram_is_added_up_in_float32_at_least() -> None:
    assert gram(features(1, 2, 3, 3).bfloat16()).dtype == torch.float32
    assert gram(features(1, 2, 3, 3).float()).dtype == torch.float32
    assert gram(features(1, 2, 3, 3)).dtype == torch.float64


def test_a_layer_without_positions_has_no_gram() -> None:
    with pytest.raises(ShapeError, match="no positions"):
        gram(torch.ones(1, 3, 0, 5))


def test_the_content_loss_is_half_the_squared_distance() -> None:
    loss = content_loss(torch.full((2, 3, 4, 5), 7.0), torch.full((1, 3, 4, 5), 4.0))
    assert loss.tolist() == [60 * 9 / 2] * 2


def test_content_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="one size"):
        content_loss(torch.ones(1, 3, 4, 5), torch.ones(1, 3, 5, 4))


def test_the_style_loss_of_two_flat_layers_has_a_closed_form() -> None:
    a, b = torch.full((1, 3, 4, 5), 3.0), torch.full((1, 3, 7, 2), 2.0)
    assert style_loss(gram(a), gram(b)).item() == (3.0**2 - 2.0**2) ** 2 / 4


def test_the_total_variation_of_a_checkerboard_counts_its_edges() -> None:
    y, x = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    board = (255.0 * ((x + y) % 2)).expand(1, 3, 4, 6)
    assert tv_loss(board).item() == 3 * (4 * 5 + 3 * 6) * 255**2


def test_the_total_variation_of_a_flat_image_is_zero() -> None:
    assert tv_loss(torch.full((2, 3, 4, 4), 9.0)).tolist() == [0, 0]


def test_the_content_gradient_is_the_reports() -> None:
    """Equation 2: F - P where F > 0, and 0 elsewhere."""
    before_relu, target = features(1, 4, 5, 6).requires_grad_(), features(1, 4, 5, 6, seed=1)
    found = before_relu.relu()
    (gradient,) = torch.autograd.grad(content_loss(found, target).sum(), before_relu)
    expected = torch.where(found > 0, found - target, 0)
    torch.testing.assert_close(gradient, expected)


def test_the_style_gradient_is_the_reports() -> None:
    """Equation 6: F^T (G - A) / (N^2 M^2) where F > 0, and 0 elsewhere; G and A are plain sums."""
    before_relu, target = features(1, 4, 5, 6).requires_grad_(), features(1, 4, 5, 6, seed=1)
    found = before_relu.relu()
    loss = style_loss(gram(found), gram(target)).sum()
    (gradient,) = torch.autograd.grad(loss, before_relu)
    f, a = found.detach().reshape(4, 30), target.reshape(4, 30)
    expected = (f @ f.T - a @ a.T) @ f / (4**2 * 30**2)
    expected = torch.where(f > 0, expected, 0).reshape(1, 4, 5, 6)
    torch.testing.assert_close(gradient, expected)


def test_all_gradients_agree_with_finite_differences() -> None:
    x, target = features(2, 3, 4, 5).requires_grad_(), features(2, 3, 4, 5, seed=1)
    assert gradcheck(gram, x)
    assert gradcheck(lambda x: content_loss(x, target), x)
    assert gradcheck(lambda x: style_loss(gram(x), gram(target)), x)
    assert gradcheck(tv_loss, x)


def report_style_loss(f: NDArray[np.float64], a: NDArray[np.float64]) -> float:
    """Equations 3 and 4, index by index."""
    n, m = f.shape
    loss = 0.0
    for i in range(n):
        for j in range(n):
            g_ij = sum(f[i, k] * f[j, k] for k in range(m))
            a_ij = sum(a[i, k] * a[j, k] for k in range(m))
            loss += (g_ij - a_ij) ** 2
    return loss / (4 * n**2 * m**2)


def test_the_losses_agree_with_numpy_in_float64() -> None:
    f, p = features(1, 6, 5, 7, dtype=torch.float32), features(1, 6, 5, 7, seed=1).float()
    f64, p64 = (x.numpy().astype(np.float64).reshape(6, 35) for x in (f, p))
    assert content_loss(f, p).item() == pytest.approx(((f64 - p64) ** 2).sum() / 2, rel=1e-6)
    loss = style_loss(gram(f), gram(p)).item()
    assert loss == pytest.approx(report_style_loss(f64, p64), rel=1e-5)
    rows, columns = np.diff(f.numpy().astype(np.float64), axis=2), np.diff(f.numpy(), axis=3)
    assert tv_loss(f).item() == pytest.approx((rows**2).sum() + (columns**2).sum(), rel=1e-6)


def test_a_style_of_another_size_weighs_as_one_of_the_same_size() -> None:
    found, style = features(1, 4, 5, 6), features(1, 4, 5, 6, seed=1)
    wallpaper = style.repeat(1, 1, 3, 2)  # six times the positions, the same statistics
    same = style_loss(gram(found), gram(style))
    torch.testing.assert_close(style_loss(gram(found), gram(wallpaper)), same)


def test_each_image_of_a_batch_has_its_own_losses() -> None:
    batch, target = features(3, 4, 5, 6), features(1, 4, 5, 6, seed=1)
    for loss in (
        lambda x: content_loss(x, target),
        lambda x: style_loss(gram(x), gram(target)),
        tv_loss,
    ):
        alone = torch.cat([loss(image.unsqueeze(0)) for image in batch])
        torch.testing.assert_close(loss(batch), alone)
