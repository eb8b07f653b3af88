import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import vgg19

from impasto.workers.engine.device import operators
from impasto.workers.engine.errors import PlanError, WeightsError
from impasto.workers.engine.layers import (
    CHANNELS,
    LAYERS,
    SHAPES,
    TAPS,
    Pooling,
    Precision,
    layer_of,
)
from impasto.workers.engine.network.backends.choice import Backend, choose
from impasto.workers.engine.network.passage import NetworkPass
from impasto.workers.engine.network.vgg import Vgg, Weights, resolve_precision
from tests.unit.workers.engine import reference


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


class Heard:
    """Keeps the features."""

    def __init__(self) -> None:
        self.features: dict[str, Tensor] = {}

    def on_features(self, _index: int, layer: str, features: Tensor, _top: int) -> None:
        self.features[layer] = features.clone()

    def add_gradient(self, *_: object) -> None:
        raise AssertionError("nobody asked for a gradient")


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_every_layer_is_what_torchvision_computes_from_the_same_weights(
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
    image = torch.rand(1, 3, 48, 35, generator=torch.Generator().manual_seed(3)) * 255
    with torch.no_grad():
        theirs = activations(model, image - vgg.weights.mean.view(3, 1, 1))
    ours = Heard()
    NetworkPass(vgg, image, LAYERS, ours, pooling=pooling, precision="float32").forward()
    assert tuple(ours.features) == LAYERS
    for layer, expected in zip(LAYERS, theirs, strict=True):
        found = ours.features[layer].permute(2, 0, 1)[None]
        assert (found - expected).norm() < 1e-5 * expected.norm()


def test_the_reference_has_the_same_layers() -> None:
    assert tuple(reference.NAMES) == LAYERS


def test_conv_and_relu_name_the_same_layer() -> None:
    assert layer_of("relu2_2") == layer_of("conv2_2") == "2_2"
    assert [layer_of(tap) for tap in TAPS] == list(LAYERS)


@pytest.mark.parametrize("name", ["relu6_1", "relu", "4_2", "conv4_5", "relurelu4_2", "pool1"])
def test_an_unknown_tap_is_refused_with_those_that_are_known(name: str) -> None:
    with pytest.raises(PlanError, match=rf"'{name}'.*relu1_1, .*relu5_4"):
        layer_of(name)


def test_a_convolution_is_made_once_for_all_sizes_that_take_it(vgg: Vgg) -> None:
    small, large = (20, 20), (64, 64)
    assert vgg.convolution("2_1", "float32", *small) is vgg.convolution("2_1", "float32", 9, 30)
    assert vgg.convolution("2_1", "float32", *large) is vgg.convolution("2_1", "float32", 99, 70)
    assert vgg.convolution("1_1", "float32", *small) is vgg.convolution("1_1", "float32", *large)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_convolution_has_the_channels_of_the_table(vgg: Vgg, precision: Precision) -> None:
    for layer in ("1_1", "1_2", "2_1", "3_1"):
        for side in (20, 64):
            found = vgg.convolution(layer, precision, side, side)
            assert (found.inputs, found.outputs) == CHANNELS[layer]


@pytest.mark.parametrize(
    ("device", "precision", "layer", "positions", "backend"),
    [
        ("cpu", "float32", "1_1", 9, "unfold"),
        ("cpu", "float32", "1_2", 999, "winograd 2"),
        ("cpu", "float32", "5_4", 1000, "winograd 4"),
        ("cuda", "float32", "1_1", 9, "cudnn"),
        ("cuda", "bfloat16", "3_1", 9, "cudnn"),
        ("mps", "float32", "1_1", 9, "direct"),
        ("mps", "bfloat16", "3_1", 9, "direct"),
    ],
)
def test_a_layer_has_the_backend_of_its_device(
    device: str, precision: Precision, layer: str, positions: int, backend: Backend
) -> None:
    assert choose(device, precision, layer, positions) == backend


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_onednn_convolves_in_bfloat16_where_it_can(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "has_bfloat16", lambda: has_bfloat16)
    expected = ("onednn", "onednn") if has_bfloat16 else ("unfold", "direct")
    assert tuple(choose("cpu", "bfloat16", f"1_{i}", 4096) for i in (1, 2)) == expected


def test_auto_is_bfloat16_where_the_processor_is_faster_in_it() -> None:
    """As far as oneDNN may use it: a setting hides instructions, and cpuinfo does not know."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    found = resolve_precision("auto", "cpu")
    if "amx_bf16" in flags and torch.cpu._is_amx_tile_supported() and not is_limited():
        assert found == "bfloat16"
    if not {"avx512_bf16", "amx_bf16"} & flags:
        assert found == "float32"


def is_limited() -> bool:
    return any(f"{library}_MAX_CPU_ISA" in os.environ for library in ("ONEDNN", "DNNL"))


@pytest.mark.skipif(
    platform.machine() not in {"x86_64", "AMD64"}, reason="no other hides its instructions so"
)
def test_auto_is_float32_where_bfloat16_would_be_slower() -> None:
    ask = (
        "from impasto.workers.engine.network.vgg import resolve_precision as resolve;"
        " print(resolve('auto', 'cpu'))"
    )
    without = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}  # has no bfloat16
    found = subprocess.check_output([sys.executable, "-c", ask], env=without, text=True)
    assert found == "float32\n"


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
