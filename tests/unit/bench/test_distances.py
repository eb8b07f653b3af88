"""Distances of pictures against closed forms."""

import math

import numpy as np
import pytest
import torch

from bench.judge import distances


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def test_clouds_that_are_moved_are_as_far_apart_as_directions_see_it() -> None:
    cloud = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    moved = cloud + torch.tensor([3.0, 0.0, 0.0])
    # The mean of |cos| over the sphere is a half.
    assert distances.sliced_wasserstein(cloud, moved) == pytest.approx(1.5, rel=0.1)


def test_a_cloud_is_no_distance_from_itself_however_it_is_ordered_and_repeated() -> None:
    cloud = torch.randn(1000, 5, generator=torch.Generator().manual_seed(1))
    shuffled = cloud[torch.randperm(1000, generator=torch.Generator().manual_seed(2))]
    assert distances.sliced_wasserstein(cloud, shuffled) == 0
    assert distances.sliced_wasserstein(cloud, cloud.repeat(3, 1)) < 0.01


def test_a_step_of_lightness_is_a_step_of_cielab() -> None:
    dark, light = np.zeros((8, 8, 3)), np.ones((8, 8, 3))  # 100 apart in L*, a half of it seen
    assert distances.lab_distance(dark, light) == pytest.approx(50, rel=0.1)
    assert distances.lab_distance(light, light) == 0


def test_histograms_of_other_hues_are_far_apart(random: np.random.Generator) -> None:
    reds = np.clip([0.8, 0.1, 0.1] + 0.02 * random.standard_normal((32, 32, 3)), 0, 1)
    assert distances.histogram_distance(reds, reds) == 0
    darker = reds / 2  # a histogram of ratios
    assert distances.histogram_distance(reds, darker) < 0.15
    assert distances.histogram_distance(reds, reds[..., ::-1]) > 0.8


def test_textures_are_compared_without_regard_to_place(random: np.random.Generator) -> None:
    features = torch.tensor(random.standard_normal((1, 6, 12, 10)), dtype=torch.float32)
    turned = features.flip(2, 3)
    doubled = 2 * features
    assert distances.feature_distance([features], [turned]) == 0
    assert distances.gram_distance([features], [turned]) == pytest.approx(0, abs=1e-6)
    assert distances.gram_distance([doubled], [features]) == pytest.approx(3)  # |4G - G| / |G|


def test_what_resembles_what_is_the_same_in_other_colours(random: np.random.Generator) -> None:
    features = torch.tensor(random.standard_normal((1, 8, 16, 16)), dtype=torch.float32)
    other = torch.tensor(random.standard_normal((1, 8, 16, 16)), dtype=torch.float32)
    shifted = 3 * features + 1
    assert distances.self_similarity_distance(features, shifted) == pytest.approx(0, abs=1e-5)
    assert distances.self_similarity_distance(features, other) > 0.2


@pytest.mark.parametrize(
    ("degrees", "expected"), [(0, 0), (30, (1 - math.cos(math.pi / 3)) / 2), (90, 1)]
)
def test_edges_count_by_the_angle_between_them(degrees: float, expected: float) -> None:
    down, across = np.mgrid[:96, :96] / 96 - 0.5

    def slope(angle: float) -> distances.Pixels:
        turned = across * math.cos(math.radians(angle)) + down * math.sin(math.radians(angle))
        return np.repeat(0.5 + turned[..., None] / 2, 3, axis=2)

    found = distances.edge_distance(slope(degrees), slope(0), sigma=1)
    assert found == pytest.approx(expected, abs=0.02)
    inverted = 1 - slope(degrees)  # light on dark is dark on light
    assert distances.edge_distance(inverted, slope(0), sigma=1) == pytest.approx(found, abs=1e-6)


def test_a_flat_picture_has_no_edges_to_compare() -> None:
    flat = np.full((32, 32, 3), 0.5)
    assert distances.edge_distance(flat, flat, sigma=1) == 0


def test_a_channel_that_is_silent_in_the_painting_does_not_drown_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    painting, picture = (torch.rand(1, 8, 20, 20, generator=generator) for _ in "ab")
    painting[:, 3] = 0
    assert distances.feature_distance([picture], [painting]) < 10  # 1e5 by its own spread
    assert distances.feature_distance([painting], [painting]) == 0
