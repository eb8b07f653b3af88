import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import gradcheck

from impasto.workers.engine.objective.losses import (
    PIECE,
    add_content_gradient,
    add_style_gradient,
    content_loss,
    gram_sum,
    style_loss,
    tv_loss,
)


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gram(x: Tensor) -> Tensor:
    """Averaged over positions, as `style_loss` takes it."""
    return gram_sum(x) / len(x)


def test_the_gram_of_ones_counts_positions() -> None:
    assert torch.equal(gram_sum(torch.ones(20, 3)), torch.full((3, 3), 20.0))


def test_the_gram_of_channels_that_never_meet_is_diagonal() -> None:
    assert torch.equal(gram_sum(torch.diag(torch.arange(4.0))), torch.diag(torch.arange(4.0) ** 2))


def test_the_grams_of_strips_add_up_to_the_gram_of_the_whole() -> None:
    whole = features(48, 5)
    torch.testing.assert_close(sum(gram_sum(strip) for strip in whole.split(13)), gram_sum(whole))


def test_a_gram_is_added_up_in_float32_at_least() -> None:
    x = features(50_000, 16)
    for dtype, summed in (
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ):
        found = gram_sum(x.to(dtype))
        assert found.dtype == summed
        torch.testing.assert_close(
            found.double(), gram_sum(x.to(dtype).double()), rtol=1e-5, atol=1e-2
        )


def test_the_content_loss_is_half_the_squared_distance() -> None:
    loss = content_loss(torch.full((3, 4, 5), 7.0), torch.full((3, 4, 5), 4.0))
    assert loss.item() == 60 * 9 / 2


def test_the_content_loss_is_added_up_in_float32() -> None:
    loss = content_loss(torch.ones(1001).bfloat16(), torch.zeros(1001).bfloat16())
    assert loss.item() == 1001 / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_content_loss_is_that_of_all_pieces(dtype: torch.dtype) -> None:
    rows = PIECE // 8 + 1  # the last piece is a row
    found, target = features(rows, 2, 4, dtype=dtype), features(rows, 2, 4, seed=1, dtype=dtype)
    expected = (found.double() - target.double()).square().sum().item() / 2
    assert content_loss(found, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_content_gradient_is_added_to_what_is_there(dtype: torch.dtype) -> None:
    rows = PIECE // 8 + 1
    found, target, there = (features(rows, 2, 4, seed=seed, dtype=dtype) for seed in range(3))
    before = found.clone()
    gradient = there.clone()
    add_content_gradient(gradient, found, target, 0.5)
    expected = there.double() + 0.5 * (found.double() - target.double())
    torch.testing.assert_close(gradient, expected.to(dtype))
    assert torch.equal(found, before)


def test_the_style_loss_of_two_flat_layers_has_a_closed_form() -> None:
    a, b = torch.full((20, 3), 3.0), torch.full((14, 3), 2.0)
    assert style_loss(gram(a) - gram(b)).item() == (3.0**2 - 2.0**2) ** 2 / 4


def test_a_style_of_another_size_weighs_as_one_of_the_same_size() -> None:
    found, style = features(30, 4), features(30, 4, seed=1)
    wallpaper = style.repeat(6, 1)  # six times the positions, the same statistics
    same = style_loss(gram(found) - gram(style))
    torch.testing.assert_close(style_loss(gram(found) - gram(wallpaper)), same)


def test_the_style_gradient_is_the_reports() -> None:
    """Equation 6: F^T (G - A) / (N^2 M^2), where G and A are plain sums; and autograd's."""
    f, a = features(30, 4).requires_grad_(), features(30, 4, seed=1)
    (autograd,) = torch.autograd.grad(style_loss(gram(f) - gram(a)), f)
    f = f.detach()
    before = features(30, 4, seed=2)
    gradient = before.clone()
    add_style_gradient(gradient, f, (gram(f) - gram(a)) / (4**2 * 30))
    equation = ((f.T @ f - a.T @ a) @ f.T).T / (4**2 * 30**2)
    torch.testing.assert_close(gradient - before, equation)
    torch.testing.assert_close(gradient - before, autograd)


def test_the_style_gradient_has_the_precision_of_the_features() -> None:
    f, scaled = features(30, 4), features(4, 4, seed=1)
    exact = torch.zeros_like(f)
    add_style_gradient(exact, f, scaled)
    for dtype, error in ((torch.float32, 1e-6), (torch.bfloat16, 1e-2)):
        gradient = torch.zeros(30, 4, dtype=dtype)
        add_style_gradient(gradient, f.to(dtype), scaled.to(dtype))
        assert gradient.dtype == dtype
        assert (gradient.double() - exact).norm() < error * exact.norm()


def tv(image: Tensor) -> Tensor:
    return tv_loss(image, torch.empty_like(image))


def test_the_total_variation_of_a_checkerboard_counts_its_edges() -> None:
    y, x = torch.meshgrid(torch.arange(4), torch.arange(6), indexing="ij")
    board = (255.0 * ((x + y) % 2)).expand(3, 4, 6)
    gradient = torch.empty_like(board)
    loss = tv_loss(board, gradient)
    assert loss.item() == 3 * (4 * 5 + 3 * 6) * 255**2
    assert gradient[0, 0, 0] == 2 * 2 * -255  # a corner has two neighbours
    assert gradient[0, 1, 2] == 2 * 4 * 255


def test_a_flat_image_has_no_total_variation_and_nowhere_to_go() -> None:
    gradient = torch.ones(3, 4, 4)
    loss = tv_loss(torch.full((3, 4, 4), 9.0), gradient)
    assert loss == 0
    assert not gradient.any()


@pytest.mark.parametrize("shape", [(3, 5, 7), (3, 1, 6), (3, 6, 1), (3, 1, 1)])
def test_the_gradient_of_total_variation_is_that_of_autograd(shape: tuple[int, ...]) -> None:
    x, gradient = features(*shape), torch.ones(shape, dtype=torch.float64)
    tv_loss(x, gradient)
    (expected,) = torch.autograd.grad(tv(x.requires_grad_()), x)
    torch.testing.assert_close(gradient, expected)


def test_the_losses_agree_with_finite_differences() -> None:
    x, target = features(20, 3).requires_grad_(), features(20, 3, seed=1)
    assert gradcheck(gram_sum, x)
    assert gradcheck(lambda x: content_loss(x, target), x)
    assert gradcheck(lambda x: style_loss(gram(x) - gram(target)), x)
    assert gradcheck(tv, features(3, 4, 5).requires_grad_())


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
    f, p = features(35, 6, dtype=torch.float32), features(35, 6, seed=1).float()
    f64, p64 = (x.numpy().astype(np.float64).T for x in (f, p))
    assert content_loss(f, p).item() == pytest.approx(((f64 - p64) ** 2).sum() / 2, rel=1e-6)
    loss = style_loss(gram(f) - gram(p)).item()
    assert loss == pytest.approx(report_style_loss(f64, p64), rel=1e-5)
    image = features(3, 5, 7, dtype=torch.float32)
    pixels = image.numpy().astype(np.float64)
    expected = (np.diff(pixels, axis=1) ** 2).sum() + (np.diff(pixels, axis=2) ** 2).sum()
    assert tv(image).item() == pytest.approx(expected, rel=1e-6)
