import pytest
import torch
from torch import Tensor

from workers.engine.errors import ShapeError
from workers.engine.pictures import noise, resized, to_image, to_picture


def test_a_picture_survives_the_way_in_and_out(content: Tensor) -> None:
    assert torch.equal(to_picture(to_image(content)), content)


def test_an_image_is_rounded_to_the_nearest_picture() -> None:
    image = torch.tensor([0.4, 0.6, 254.6]).view(1, 3, 1, 1)
    assert to_picture(image).tolist() == [[[0, 1, 255]]]


@pytest.mark.parametrize(
    "picture",
    [
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 4, dtype=torch.uint8),
        torch.zeros(8, 8, 3),
    ],
)
def test_what_is_no_picture_is_refused(picture: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"uint8 \(H, W, 3\)"):
        to_image(picture)


def test_noise_is_gaussian_around_mid_grey() -> None:
    values = noise(128, 128, seed=1).flatten().double()
    centred = values - values.mean()
    assert values.mean().item() == pytest.approx(127.5, abs=0.05)
    assert values.std().item() == pytest.approx(2.5, abs=0.05)
    kurtosis = (centred**4).mean() / (centred**2).mean() ** 2
    assert kurtosis.item() == pytest.approx(3, abs=0.1)
    assert torch.equal(values, values.round())


def test_one_seed_is_one_noise_everywhere() -> None:
    """The numbers were drawn once, on x86-64; every platform has to draw them again."""
    drawn = noise(4, 5, seed=7)
    assert torch.equal(drawn, noise(4, 5, seed=7))
    assert noise(64, 64, seed=7).sum() == 1_566_166
    assert drawn[0, 0, 0].tolist() == [128, 128, 132, 131, 130]


def test_another_seed_is_another_noise() -> None:
    assert not torch.equal(noise(4, 5, seed=1), noise(4, 5, seed=2))


def test_a_flat_image_stays_flat_when_it_is_stretched() -> None:
    stretched = resized(torch.full((1, 3, 20, 30), 77.0), 13, 55)
    torch.testing.assert_close(stretched, torch.full((1, 3, 13, 55), 77.0))


def test_a_stretched_image_stays_within_what_a_picture_holds() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 255
    stretched = resized(edge, 40, 40)
    assert stretched.min() == 0
    assert stretched.max() == 255
