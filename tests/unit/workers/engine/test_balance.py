"""Strength: losses as shares, whatever the pair, the size and the layers."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from impasto.workers.engine.network.vgg import Vgg
from impasto.workers.engine.objective.balance import Factors
from impasto.workers.engine.plan import PLAIN, Plan
from impasto.workers.engine.render.pictures import resized, to_image
from impasto.workers.engine.render.pyramid import Style
from impasto.workers.engine.render.render import Render

Layers = tuple[Mapping[str, float], Mapping[str, float]]  # of content and style

HALF = replace(
    PLAIN,
    strength=0.5,
    iterations=8,
    pyramid=1,
    content_layers={"relu2_2": 0.5, "relu3_2": 0.5},
    style_layers={"relu1_1": 0.25, "relu2_1": 0.25, "relu3_1": 0.5},
    tv_weight=0.0,
)


def started(plan: Plan, vgg: Vgg, content: Tensor, *styles: Style, init: Tensor) -> Render:
    """At its first look, at a picture of any size."""
    render = Render(replace(plan, init="asset"), vgg, content, styles, init=init)
    render.step()
    return render


def finished(render: Render) -> Render:
    while not render.is_finished:
        render.step()
    return render


def masked(content: Tensor, columns: slice) -> Tensor:
    mask = torch.zeros(content.shape[:2], dtype=torch.uint8)
    mask[:, columns] = 255
    return mask


@pytest.mark.parametrize(
    "layers",
    [
        (HALF.content_layers, HALF.style_layers),
        ({"relu4_2": 1.0}, {f"relu{block}_1": 0.2 for block in range(1, 6)}),
        ({"relu1_2": 1.0}, {"relu3_1": 1.0}),
    ],
)
@pytest.mark.parametrize("dim", [1.0, 0.1])
def test_the_photograph_loses_all_of_the_style_and_the_painting_all_of_the_content(
    vgg: Vgg, content: Tensor, style: Tensor, layers: Layers, dim: float
) -> None:
    plan = replace(HALF, content_layers=layers[0], style_layers=layers[1])
    content, style = (60 + dim * picture.float() for picture in (content, style))
    content, style = (picture.clamp(0, 255).to(torch.uint8) for picture in (content, style))
    painted = Style(style)

    at_photograph = started(plan, vgg, content, painted, init=content).progress.losses
    assert at_photograph.content == 0
    assert at_photograph.style == pytest.approx(1, rel=1e-3)

    at_painting = started(plan, vgg, content, painted, init=style).progress.losses
    assert at_painting.content == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("strength", [0.0, 0.25, 0.5, 1.0])
def test_total_variation_counts_as_a_share_of_the_paintings(
    vgg: Vgg, content: Tensor, strength: float
) -> None:
    plan = replace(HALF, strength=strength, tv_weight=0.05)
    painting = content.flip(1)

    for painted in (painting, (60 + painting / 2).to(torch.uint8)):
        at_half = 6 * max(content.shape) / 512
        told = started(plan, vgg, content, Style(painted), init=painted).progress
        share = told.losses.tv * told.level.factors.tv_weight
        assert share == pytest.approx(0.05 * at_half * (2 * strength) ** 1.25, rel=1e-4)


@pytest.mark.parametrize(("strength", "ratio"), [(0, 0), (0.25, 1.06066), (0.5, 6), (1, 33.9411)])
def test_the_style_outweighs_the_content_by_a_power_of_strength(
    vgg: Vgg, content: Tensor, style: Tensor, strength: float, ratio: float
) -> None:
    plan = replace(HALF, strength=strength)
    its = started(plan, vgg, content, Style(style), init=content).progress.level.factors
    assert its.content_weight == 1
    assert its.style_weight * 512 / max(content.shape) == pytest.approx(ratio)


def test_a_texture_is_of_the_style_alone(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    plan = replace(HALF, strength=1.0, content_layers={}, init="noise", iterations=20)
    render = finished(Render(plan, vgg, content, [Style(style)]))
    assert render.progress.losses.content == 0
    assert render.progress.losses.style < 0.1
    weights = render.weights()
    assert (weights["content_weight"], weights["content_layers"]) == (0, {})


def test_a_flat_painting_does_not_forbid_all_variation(vgg: Vgg, content: Tensor) -> None:
    plan = replace(HALF, tv_weight=0.05)
    flat = torch.full_like(content, 90)

    told = started(plan, vgg, content, Style(flat), init=content).progress

    height, width, _ = content.shape
    style_weight = 6 * max(height, width) / 512
    expected = 0.05 * style_weight / (50 * height * width)
    assert told.level.factors.tv_weight == pytest.approx(expected)


def test_it_is_so_at_every_size(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    big = to_image(content)
    photograph = resized(big, 128, 128)[0].permute(1, 2, 0).round().to(torch.uint8)
    render = Render(replace(HALF, pyramid=3, iterations=4), vgg, photograph, [Style(style)])
    coarse = render.weights()
    heights = []
    while not render.is_finished:
        told = render.step()
        heights.append(told.level.height)
        assert told.level.factors == Factors(1.0, 1.5, 0.0)
    assert heights == [32, 32, 64, 128, 128]
    assert render.weights()["style_weight"] > 2 * coarse["style_weight"]  # more positions


def test_several_paintings_count_as_one_and_each_region_has_its_own(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    other = style.flip(2)
    both = [Style(style, 1.0), Style(other, 3.0)]
    losses = started(HALF, vgg, content, *both, init=content).progress.losses
    assert 1 < losses.style < 2  # no picture is as both of them: that rest is beside the share
    twice = [Style(style, 1.0), Style(style, 3.0)]
    losses = started(HALF, vgg, content, *twice, init=content).progress.losses
    assert losses.style == pytest.approx(1, rel=1e-3)

    halves = [
        Style(style, mask=masked(content, slice(0, 32))),
        Style(other, mask=masked(content, slice(32, 64))),
    ]
    losses = started(HALF, vgg, content, *halves, init=content).progress.losses
    assert losses.style == pytest.approx(1, rel=1e-3)


def test_its_weights_named_one_by_one_are_the_same_loss(
    vgg: Vgg, content: Tensor, style: Tensor
) -> None:
    plan = replace(HALF, tv_weight=0.1)
    by_strength = started(plan, vgg, content, Style(style), init=style)
    weights = by_strength.weights()
    assert weights["content_weight"] == 1
    for name in ("content_layers", "style_layers"):
        assert sum(weights[name].values()) == pytest.approx(1)

    by_name = started(
        replace(plan, strength=None, **weights), vgg, content, Style(style), init=style
    )
    first, second = by_strength.progress.losses, by_name.progress.losses
    for part in ("content", "style", "tv"):
        ratio = getattr(first, part) * getattr(by_strength.progress.level.factors, f"{part}_weight")
        named = getattr(second, part) * weights[f"{part}_weight"]
        assert ratio / first.total == pytest.approx(named / second.total, rel=1e-4)
    assert torch.nn.functional.cosine_similarity(
        *(each.state_dict()["gradient"].flatten() for each in (by_strength, by_name)), dim=0
    ) == pytest.approx(1, abs=1e-5)


def test_more_of_it_is_more_of_the_painting(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    losses = [
        finished(
            Render(replace(HALF, strength=s, iterations=20), vgg, content, [Style(style)])
        ).progress.losses
        for s in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    assert [loss.style for loss in losses] == sorted((loss.style for loss in losses), reverse=True)
    kept = [loss.content for loss in losses[:-1]]
    assert kept == sorted(kept)
    assert losses[0].style == pytest.approx(1, rel=1e-3)
    assert losses[-1].style < 0.1


def test_at_0_it_is_the_photograph(vgg: Vgg, content: Tensor, style: Tensor) -> None:
    render = finished(Render(replace(HALF, strength=0.0), vgg, content, [Style(style)]))
    assert torch.equal(render.image(), content.float())


@pytest.mark.parametrize("init", ["content", "noise"])
def test_a_painting_that_is_the_photograph_and_flat_colours_do_no_harm(
    vgg: Vgg, content: Tensor, init: str
) -> None:
    flat = torch.full_like(content, 130)
    for photograph, painting in (
        (content, content),
        (flat, flat),
        (content, flat),
        (flat, content),
    ):
        plan = replace(HALF, init=init, iterations=4, tv_weight=0.025)
        render = finished(Render(plan, vgg, photograph, [Style(painting)]))
        assert math.isfinite(render.progress.losses.total)
        assert render.image().isfinite().all()
    same = finished(Render(replace(HALF, iterations=4), vgg, content, [Style(content)]))
    assert (same.image() - content).abs().max() < 1


@pytest.mark.parametrize("before", [1, 3, 6])
def test_a_render_by_strength_goes_on_to_the_bit(
    vgg: Vgg, content: Tensor, style: Tensor, before: int
) -> None:
    def made() -> Render:
        return Render(replace(HALF, pyramid=2), vgg, content, [Style(style)])

    first, second = made(), made()
    for _ in range(before):
        first.step()
    second.load_state_dict(first.state_dict())
    assert torch.equal(finished(first).image(), finished(second).image())
    assert first.progress.losses == second.progress.losses
    assert first.weights() == second.weights()
