"""Pictures outside the engine, images inside, and the images that a render may start from.

A picture is uint8 or uint16 (H, W, 3), RGB, on the host: what is read from a file; what is written
to one is float32 until the file's own bits are known.
An image is float32 (1, 3, H, W), RGB, 0..255, on the device.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import PlanError, ShapeError
from ..plan import Plan

BLACK, WHITE = 0, 255
_LEVELS = {torch.uint8: 1, torch.uint16: 257}  # to a grey level of 8 bits
GREY = (BLACK + WHITE) / 2
# What the noise has beyond the need to break symmetry stays in the picture, as grain: after 80
# iterations at 128 px the losses were the same as from 42.5, the total variation an eighth.
NOISE_STD = 2.5
SCALE_SIDE_MIN = 32  # px on the short side: two cells of the deepest layers


def to_image(picture: Tensor, device: torch.device | str = "cpu") -> Tensor:
    """The image of a picture. Raises ShapeError unless it is uint8 or uint16, (H, W, 3)."""
    if picture.dtype not in _LEVELS or picture.ndim != 3 or picture.shape[2] != 3:
        raise ShapeError(
            f"a picture is uint8 or uint16 (H, W, 3), not {picture.dtype} {tuple(picture.shape)}"
        )
    if picture.dtype == torch.uint16:
        picture = picture.float() / _LEVELS[torch.uint16]
    return picture.to(device).permute(2, 0, 1).unsqueeze(0).float().contiguous()


def to_picture(image: Tensor) -> Callable[[], Tensor]:
    """The picture of an image as it is now, not rounded yet: float32 (H, W, 3), on the host.

    What is returned waits for it, in any thread; whoever took it does not.
    """
    picture = image[0].permute(1, 2, 0).contiguous()
    if picture.device.type != "cuda":
        return picture.cpu
    on_host = torch.empty(picture.shape, pin_memory=True)
    on_host.copy_(picture, non_blocking=True)
    is_there = torch.cuda.Event()  # type: ignore[no-untyped-call]
    is_there.record(torch.cuda.current_stream(picture.device))

    def wait() -> Tensor:
        is_there.synchronize()
        return on_host

    return wait


def to_mask(picture: Tensor, canvas: Tensor) -> Tensor:
    """(H, W), 0..1, for the canvas, (1, 3, H, W), of a mask: uint8 (H, W), white is 1.

    Raises ShapeError unless it is that.
    """
    if picture.dtype != torch.uint8 or picture.ndim != 2:
        raise ShapeError(f"a mask is uint8 (H, W), not {picture.dtype} {tuple(picture.shape)}")
    mask = picture.to(canvas.device)[None, None].float()
    return resized(mask, *canvas.shape[-2:])[0, 0] / WHITE


def clamped(image: Tensor) -> Tensor:
    """The nearest image that can be saved."""
    return image.clamp(BLACK, WHITE)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """The image stretched to a canvas, antialiased."""
    if image.shape[-2:] == (height, width):
        return image
    size = (height, width)
    return clamped(
        functional.interpolate(image, size, mode="bicubic", antialias=True, align_corners=False)
    )


def noise(height: int, width: int, seed: int) -> Tensor:
    """Gaussian noise around mid grey, in whole grey levels, on the CPU.

    Drawn in float64 and rounded, because float32 normals differ in the last bits between
    processors: one seed is one picture, everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((1, 3, height, width), generator=generator, dtype=torch.float64)
    return clamped((GREY + NOISE_STD * normal).round()).float()


def shrunk(image: Tensor, shrink: int) -> Tensor:
    """At a size of the pyramid: each side divided by `shrink`."""
    return resized(image, *shrunk_size(image.shape[-2:], shrink))


def shrunk_size(size: Sequence[int], shrink: int) -> tuple[int, int]:
    height, width = size
    return max(1, round(height / shrink)), max(1, round(width / shrink))


def start(plan: Plan, canvas: Tensor, style: Tensor, init: Tensor | None) -> Tensor:
    """The image before the first iteration, of the canvas's size.

    style, init: pictures; the latter is asked for where `plan.init` is "asset". Raises PlanError if
    it is not given.
    """
    height, width = canvas.shape[-2:]
    match plan.init:
        case "content":
            return canvas
        case "noise":
            return noise(height, width, plan.seed).to(canvas.device)
        case "style":
            return resized(to_image(style, canvas.device), height, width)
        case "asset":
            if init is None:
                raise PlanError("init is 'asset', but no picture to start from was given")
            return resized(to_image(init, canvas.device), height, width)
