import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.workers.engine.errors import ShapeError
from impasto.workers.engine.render.pictures import (
    clamped,
    noise,
    resized,
    to_image,
    to_mask,
    to_picture,
)


def test_a_picture_survives_the_way_in_and_out(content: Tensor) -> None:
    image = to_image(content)
    assert image.shape == (1, 3, 64, 64)
    assert torch.equal(to_picture(image)(), content.float())


def test_channels_come_first_inside() -> None:
    picture = torch.tensor([[[1, 2, 3], [4, 5, 6]]], dtype=torch.uint8)
    assert to_image(picture).tolist() == [[[[1, 4]], [[2, 5]], [[3, 6]]]]


def test_an_image_is_not_rounded() -> None:
    """How many bits a file has is known where it is written."""
    image = torch.tensor([0.25, 0.5, 254.75]).view(1, 3, 1, 1)
    found = to_picture(image)()
    assert found.tolist() == [[[0.25, 0.5, 254.75]]]
    assert found.dtype == torch.float32


def test_sixteen_bits_are_levels_between_those_of_eight() -> None:
    deep = torch.from_numpy(np.array([[[0, 257, 65535], [128, 300, 40_000]]], np.uint16))

    image = to_image(deep)

    expected = torch.tensor([[[0.0, 1.0, 255.0], [128 / 257, 300 / 257, 40_000 / 257]]])
    assert torch.equal(image, expected.permute(2, 0, 1)[None])


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
    with pytest.raises(ShapeError, match=r"uint8 or uint16 \(H, W, 3\)"):
        to_image(picture)


def test_a_mask_is_1_where_it_is_white_and_has_the_canvass_size() -> None:
    mask = torch.zeros(8, 8, dtype=torch.uint8)
    mask[:, 4:], mask[0, 0] = 255, 51
    same = to_mask(mask, torch.zeros(1, 3, 8, 8))
    assert torch.equal(same, mask.float() / 255)
    stretched = to_mask(mask, torch.zeros(1, 3, 20, 30))
    assert stretched.shape == (20, 30)
    assert stretched.aminmax() == (0, 1)
    assert stretched[10:, :9].max() == 0
    assert stretched[:, -9:].min() > 0.9999


@pytest.mark.parametrize(
    "mask", [torch.zeros(8, 8), torch.zeros(8, 8, 3, dtype=torch.uint8), torch.zeros(8) > 0]
)
def test_what_is_no_mask_is_refused(mask: Tensor) -> None:
    with pytest.raises(ShapeError, match=r"a mask is uint8 \(H, W\), not .*\(8,"):
        to_mask(mask, torch.zeros(1, 3, 8, 8))


def test_the_nearest_image_that_can_be_saved_is_within_bounds() -> None:
    assert clamped(torch.tensor([-3.0, 0.5, 300.0])).tolist() == [0, 0.5, 255]


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


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = noise(20, 30, seed=1) - 200
    assert torch.equal(resized(image, 20, 30), image)


def test_an_image_that_shrinks_keeps_its_mean() -> None:
    """Antialiased: a checkerboard becomes grey."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    board = (255.0 * ((x + y) % 2)).expand(1, 3, 32, 32)
    inside = resized(board, 8, 8)[..., 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, 127.5), rtol=0, atol=1)


def test_a_stretched_image_stays_within_what_a_picture_holds() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 255
    stretched = resized(edge, 40, 40)
    assert stretched.min() == 0
    assert stretched.max() == 255
