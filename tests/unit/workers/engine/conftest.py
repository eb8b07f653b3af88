"""The real network, and small pictures with something in them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto.workers import weights
from impasto.workers.engine.network.vgg import Vgg

SIDE = 64


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures this small gain nothing from a second core, and lose much where it is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def vgg() -> Vgg:
    return Vgg(weights.load("caffe", Path("unused"), fetch=_nothing))


@pytest.fixture
def content() -> Tensor:
    """A disc on a gradient: uint8 (64, 64, 3)."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    disc = (x - 24) ** 2 + (y - 30) ** 2 < 16**2
    channels = torch.where(disc, 230 - y, 3 * x), torch.where(disc, 60, y + 40), 4 * y
    return torch.stack([channel.clamp(0, 255) for channel in channels], dim=2).to(torch.uint8)


@pytest.fixture
def small(content: Tensor) -> Tensor:
    """A corner of it, where the size of the canvas does not matter: uint8 (32, 32, 3)."""
    return content[8:40, 4:36]


@pytest.fixture
def style() -> Tensor:
    """Slanted stripes in two colours: uint8 (64, 80, 3)."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE + 16), indexing="ij")
    wave = torch.sin((x + 2 * y) / 3.0).unsqueeze(2)
    dark, bright = torch.tensor([20.0, 40.0, 120.0]), torch.tensor([250.0, 210.0, 60.0])
    return (dark + (bright - dark) * (wave + 1) / 2).to(torch.uint8)


def _nothing(address: str) -> bytes:
    raise AssertionError(f"{address} was fetched")
