from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import vgg19

from workers.engine.errors import PlanError, ShapeError, WeightsError
from workers.engine.vgg import SHAPES, TAPS, Pooling, Vgg, Weights, resolve_precision


def image(height: int = 48, width: int = 64, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, 3, height, width, generator=generator) * 255


def torchvision_model() -> nn.Sequential:
    with torch.device("meta"):  # the classifier's half a gigabyte is never allocated
        return vgg19().features.eval()


def activations(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    found = []
    for module in model:
        x = module(x)
        if isinstance(module, nn.ReLU):
            found.append(x.clone())
    return found


def test_the_layer_table_is_torchvisions() -> None:
    theirs = [module for module in torchvision_model() if isinstance(module, nn.Conv2d)]
    ours = list(SHAPES.values())
    assert ours == [tuple(p.shape) for conv in theirs for p in (conv.weight, conv.bias)]


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_tap_is_what_torchvision_computes_from_the_same_weights(
    vgg: Vgg, pooling: Pooling
) -> None:
    model = torchvision_model()
    names = (
        f"{i}.{kind}"
        for i, m in enumerate(model)
        if isinstance(m, nn.Conv2d)
        for kind in ("weight", "bias")
    )
    model.load_state_dict(dict(zip(names, vgg.weights.tensors.values(), strict=True)), assign=True)
    if pooling == "avg":
        for index, module in enumerate(model):
            if isinstance(module, nn.MaxPool2d):
                model[index] = nn.AvgPool2d(2)
    with torch.no_grad():
        theirs = activations(model, image() - vgg.weights.mean.view(3, 1, 1))
        ours = vgg.features(image(), TAPS, pooling)
    assert list(ours) == list(TAPS)
    for tap, expected in zip(TAPS, theirs, strict=True):
        torch.testing.assert_close(
            ours[tap], expected, rtol=1e-4, atol=1e-4 * expected.max().item()
        )


def test_conv_and_relu_name_the_same_tap(vgg: Vgg) -> None:
    found = vgg.features(image(), ["relu2_2", "conv2_2"])
    assert torch.equal(found["relu2_2"], found["conv2_2"])


def test_features_are_after_the_relu_and_keep_it_through_what_follows(vgg: Vgg) -> None:
    shallow = vgg.features(image(), ["relu1_1"])["relu1_1"]
    assert shallow.min() == 0
    assert torch.equal(vgg.features(image(), ["relu1_1", "relu3_1"])["relu1_1"], shallow)


def test_nothing_is_computed_below_the_deepest_tap(vgg: Vgg) -> None:
    """A picture that is too small for block 5 does for block 4."""
    assert vgg.features(image(8, 8), ["relu4_4"])["relu4_4"].shape == (1, 512, 1, 1)


def test_no_taps_need_no_features(vgg: Vgg) -> None:
    assert vgg.features(image(1, 1), []) == {}


def test_a_picture_that_would_be_pooled_away_is_refused(vgg: Vgg) -> None:
    with pytest.raises(ShapeError, match=r"40 x 15 px; relu5_1 needs at least 16 px"):
        vgg.features(image(15, 40), ["relu1_1", "conv5_1"])
    assert vgg.features(image(16, 40), ["conv5_1"])["conv5_1"].shape == (1, 512, 1, 2)


@pytest.mark.parametrize("name", ["relu6_1", "relu", "4_2", "conv4_5", "relurelu4_2", "pool1"])
def test_an_unknown_tap_is_refused_with_those_that_are_known(vgg: Vgg, name: str) -> None:
    with pytest.raises(PlanError, match=rf"'{name}'.*relu1_1, .*relu5_4"):
        vgg.features(image(), [name])


def test_the_images_of_a_batch_do_not_see_each_other(vgg: Vgg) -> None:
    batch = image(32, 32, batch=3)
    together = vgg.features(batch, ["relu3_1"])["relu3_1"]
    alone = torch.cat([vgg.features(x.unsqueeze(0), ["relu3_1"])["relu3_1"] for x in batch])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-3)


def test_bfloat16_stays_close_to_float32(vgg: Vgg) -> None:
    exact = vgg.features(image(32, 32), TAPS)
    rounded = vgg.features(image(32, 32), TAPS, precision="bfloat16")
    for tap in TAPS:
        assert rounded[tap].dtype == torch.bfloat16
        error = (rounded[tap].float() - exact[tap]).norm() / exact[tap].norm()
        assert 0 < error < 0.05


def test_auto_is_bfloat16_where_the_processor_multiplies_in_it() -> None:
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    expected = "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"
    assert resolve_precision("auto", "cpu") == expected


def test_a_precision_that_is_asked_for_by_name_is_given() -> None:
    assert resolve_precision("bfloat16", "cpu") == "bfloat16"
    assert resolve_precision("float32", "cuda") == "float32"


def test_weights_of_another_network_are_refused_with_everything_that_is_wrong(vgg: Vgg) -> None:
    tensors = dict(vgg.weights.tensors)
    del tensors["conv3_1.bias"]
    tensors["conv4_2.weight"] = torch.zeros(512, 256, 3, 3)
    with pytest.raises(WeightsError, match="crooked") as caught:
        Weights("crooked", "0", torch.zeros(1), tensors)
    assert str(caught.value).count(";") == 2
    assert "conv3_1.bias is missing, expected (256,)" in str(caught.value)
    assert "conv4_2.weight is (512, 256, 3, 3), expected (512, 512, 3, 3)" in str(caught.value)
    assert "mean is (1,), expected (3,)" in str(caught.value)
