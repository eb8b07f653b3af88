"""What a spec asks of the engine, and of the picture that the engine gives."""

from collections.abc import Callable, Sequence

import torch

from impasto.shared.pictures.codec import Picture
from impasto.shared.pictures.pool import Decoders
from impasto.shared.spec import JobSpec
from impasto.shared.spec import Style as Painting

from . import colors
from .engine.layers import Precision
from .engine.plan import Plan
from .engine.render.pyramid import Style
from .images import Rendered
from .smoothing import smoothed


def plan_of(spec: JobSpec, precision: Precision) -> Plan:
    """The engine's plan for a spec."""
    same = spec.model_dump(
        include={
            "iterations",
            "optimizer",
            "learning_rate",
            "init",
            "seed",
            "content_layers",
            "style_layers",
            "content_weight",
            "style_weight",
            "tv_weight",
            "normalize_gradients",
            "pooling",
            "pyramid",
            "strength",
            "patience",
        }
    )
    if spec.strength is not None:  # it comes to weights of its own
        same |= {"content_weight": 1.0, "style_weight": 1.0}
    return Plan(**same, precision=precision)


def in_styles_colors(content: Picture, styles: Sequence[Style], spec: JobSpec) -> Picture:
    """The content as the engine is to see it: in the styles' colours, as far as the spec says."""
    if spec.content_colors == "own":
        return content
    sources = [
        colors.Source(
            style.picture.numpy(),
            None if style.opaque is None else style.opaque.numpy(),
            None if style.mask is None else style.mask.numpy(),
            style.weight,
        )
        for style in styles
    ]
    return colors.in_colors_of(content, sources, _amount(spec))


def style_of(
    painting: Painting,
    spec: JobSpec,
    content: Picture,
    file: Callable[[str], bytes],
    decoders: Decoders,
) -> Style:
    """The engine's style for one of a spec: in its size and colours, and where it applies.

    content: of the canvas's size.
    file: gives the bytes of an asset.
    """
    decoded = decoders.decode(file(painting.asset), spec.style_side)
    picture, opaque, name = decoded.picture, None, painting.asset
    if decoded.alpha is not None:
        picture, opaque = colors.filled(picture, decoded.alpha), torch.from_numpy(decoded.alpha)
    if match := colors.MATCHED.get(spec.original_colors):
        picture = match(picture, content)
        # With its size: in another one, the content's colours are not quite the same.
        name = f"{name}~{spec.original_colors}~{spec.content}@{spec.size}"
    mask = None
    if painting.mask:
        height, width, _ = content.shape
        mask = torch.from_numpy(decoders.decode_mask(file(painting.mask), width, height))
    return Style(torch.from_numpy(picture), painting.weight, name, mask, opaque)


def finished(image: Rendered, content: Picture, spec: JobSpec) -> Rendered:
    """The picture to be kept of one that the engine gave.

    content: in its own colours, of the picture's size.
    """
    if spec.finish == "smooth":
        image = smoothed(image, content, _amount(spec))
    if spec.original_colors == "luminance":
        image = colors.with_colors_of(image, content)
    return image


def _amount(spec: JobSpec) -> float:
    """How much of what goes beside the render: with no style at all, the photograph stays."""
    return 1.0 if spec.strength is None else min(1.0, 2 * spec.strength)
