import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import VGG19_Weights, vgg19

from impasto.workers import weights
from impasto.workers.engine.errors import WeightsError
from impasto.workers.engine.layers import LAYERS, SHAPES
from impasto.workers.engine.network.passage import NetworkPass
from impasto.workers.engine.network.vgg import Vgg, Weights
from tests.servers.server import package

CAFFE = package(weights.CAFFE_PACKAGE) / weights.CAFFE_FILE


def fetch(address: str) -> bytes:
    raise AssertionError(f"{address} was fetched")


@pytest.fixture(scope="module")
def caffe() -> Weights:
    return weights.load("caffe", Path("unused"), fetch)


def file_of(found: Weights) -> bytes:
    """The weights in our own format."""
    return safetensors.torch.save({**found.tensors, "mean": found.mean})


def same(one: Weights, other: Weights) -> bool:
    return torch.equal(one.mean, other.mean) and all(
        torch.equal(one.tensors[name], other.tensors[name]) for name in SHAPES
    )


def test_the_installed_weights_are_decoded_as_their_package_does_it(caffe: Weights) -> None:
    """Index by index, as plain Python; its images are BGR, ours RGB."""
    coded = torch.load(CAFFE, weights_only=True)
    for layer, flipped in (("1_1", True), ("1_2", False), ("2_1", False)):
        block, index = layer.split("_")
        name = f"block{block}_conv{index}"
        table = coded[f"{name}_W_table"].tolist()
        values = [table[code] for code in coded[f"{name}_W_q"].flatten().tolist()]
        expected = torch.tensor(values).view(SHAPES[f"conv{layer}.weight"])
        ours = caffe.tensors[f"conv{layer}.weight"]
        assert torch.equal(ours, expected[:, [2, 1, 0]] if flipped else expected)
        assert torch.equal(caffe.tensors[f"conv{layer}.bias"], coded[f"{name}_b"])


def test_a_truncated_file_is_recognised_by_its_digest(tmp_path: Path) -> None:
    whole = CAFFE.read_bytes()
    file = tmp_path / "cut.bin"
    file.write_bytes(whole[:-1])
    with pytest.raises(WeightsError) as caught:
        weights.from_caffe(file)
    expected, found = weights.CAFFE_DIGEST, hashlib.sha256(whole[:-1]).hexdigest()
    assert all(part in str(caught.value) for part in (str(file), expected, found))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.safetensors cannot be read: No such file"):
        weights.load(str(tmp_path / "gone.safetensors"), tmp_path, fetch)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "CAFFE_PACKAGE", "impasto_of_old")
    with pytest.raises(WeightsError, match="package impasto_of_old is not installed"):
        weights.load("caffe", tmp_path, fetch)


def test_a_file_in_our_format_is_known_by_its_own_digest(tmp_path: Path, caffe: Weights) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(file_of(caffe))
    found = weights.load(str(file), tmp_path, fetch)
    assert same(found, caffe)
    assert found.name == "mine.safetensors"
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_weights_come_from_a_bucket(tmp_path: Path, caffe: Weights) -> None:
    bucket = {"s3://models/vgg.safetensors": file_of(caffe)}
    found = weights.load("s3://models/vgg.safetensors", tmp_path, bucket.__getitem__)
    assert same(found, caffe)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_lacks_tensors_is_refused_with_their_names(caffe: Weights) -> None:
    tensors = {"mean": caffe.mean, **caffe.tensors}
    del tensors["conv3_2.bias"], tensors["conv5_4.weight"]
    with pytest.raises(WeightsError, match=r"conv3_2\.bias is missing.*conv5_4\.weight is missing"):
        weights.from_safetensors(safetensors.torch.save(tensors), "thin")


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"notes\.txt is no safetensors file.*9 bytes"):
        weights.from_safetensors(b"not a net", "notes.txt")


# torchvision


def torchvision_module() -> nn.Sequential:
    with torch.device("meta"):  # the classifier's half a gigabyte is never allocated
        return vgg19().features.eval()


@pytest.fixture(scope="module")
def torchvision_features() -> nn.Sequential:
    """torchvision's module with parameters of its own initialisation."""
    features = torchvision_module()
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(p.shape, generator=generator) * (0.02 if p.ndim == 4 else 0.1)
        for name, p in features.state_dict().items()
    }
    features.load_state_dict(state, assign=True)
    return features


@pytest.fixture
def published(tmp_path: Path, torchvision_features: nn.Sequential) -> str:
    """The address of a checkpoint, named by its digest as torchvision's are."""
    file = tmp_path / "published.pth"
    state = torchvision_features.state_dict(prefix="features.")
    torch.save(state, file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return file.rename(tmp_path / f"vgg19-{digest[:8]}.pth").as_uri()


def test_torchvisions_weights_see_in_grey_levels_what_they_saw_normalised(
    published: str, tmp_path: Path, torchvision_features: nn.Sequential
) -> None:
    vgg = Vgg(weights.from_torchvision(published, tmp_path / "cache"))
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 255
    mean, std = (
        torch.tensor(x).view(3, 1, 1) for x in (weights.TORCHVISION_MEAN, weights.TORCHVISION_STD)
    )
    x, expected = (image / 255 - mean) / std, []
    with torch.no_grad():
        for module in torchvision_features:
            x = module(x)
            if isinstance(module, nn.ReLU):
                expected.append(x.clone())
    found: dict[str, Tensor] = {}
    NetworkPass(vgg, image, LAYERS, Features(found), pooling="max", precision="float32").forward()
    for layer, theirs in zip(LAYERS, expected, strict=True):
        ours = found[layer].permute(2, 0, 1).unsqueeze(0)
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.max().item())


class Features:
    """Copies the features: what a passage kept is overwritten by the next."""

    def __init__(self, found: dict[str, Tensor]) -> None:
        self.found = found

    def on_features(self, _index: int, layer: str, features: Tensor, _top: int) -> None:
        self.found[layer] = features.clone()

    def add_gradient(self, *_: object) -> None:
        raise AssertionError("nothing asks for a gradient")


def test_the_constants_are_torchvisions() -> None:
    published = VGG19_Weights.IMAGENET1K_V1
    preset = published.transforms()
    assert published.url == weights.TORCHVISION_URL
    assert tuple(preset.mean) == weights.TORCHVISION_MEAN
    assert tuple(preset.std) == weights.TORCHVISION_STD
    convs = [i for i, m in enumerate(torchvision_module()) if isinstance(m, nn.Conv2d)]
    assert tuple(convs) == weights.TORCHVISION_CONVS


def test_a_download_is_kept_and_not_made_again(published: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = weights.from_torchvision(published, cache)
    next(tmp_path.glob("vgg19-*.pth")).unlink()
    (kept,) = cache.iterdir()
    assert kept.name.endswith(f"-{first.digest}.safetensors")
    second = weights.from_torchvision(published, cache)
    assert same(first, second)
    assert second.digest == first.digest


def test_a_damaged_copy_is_made_again(published: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = weights.from_torchvision(published, cache)
    (kept,) = cache.iterdir()
    damaged = bytearray(kept.read_bytes())
    damaged[-1] ^= 1
    kept.write_bytes(damaged)
    assert same(weights.from_torchvision(published, cache), first)
    assert [file.read_bytes() != damaged for file in cache.iterdir()] == [True]


def test_a_download_of_another_digest_is_refused(published: str, tmp_path: Path) -> None:
    file = next(tmp_path.glob("vgg19-*.pth"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=rf"{file.stem}.*invalid hash value"):
        weights.from_torchvision(published, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_address_that_does_not_answer_is_named(tmp_path: Path) -> None:
    nowhere = (tmp_path / "vgg19-00000000.pth").as_uri()
    with pytest.raises(WeightsError, match=r"vgg19-00000000\.pth cannot be downloaded"):
        weights.from_torchvision(nowhere, tmp_path / "cache")
