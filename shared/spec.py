"""What a client asks for: every field with its unit, bound, default and a sentence.

`RenderSpec` holds what decides the picture, and its digest names that meaning: two specs that ask
for the same picture have the same digest, however they were written. `JobSpec` adds what decides
only how the job is treated.
"""

import hashlib
import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

SPEC_VERSION = 2  # part of the digest: raise it when the same fields start to mean another picture

SIZE_MIN, SIZE_MAX = 64, 16384  # below 64 px the deepest layers see next to nothing
SHORT_SIDE_MIN = 32  # relu5_1 is 16 px a cell: two cells at least
ITERATIONS_MAX = 10_000
STYLES_MAX = 8
STYLE_SIDE_MAX = 4096
WEBP_SIDE_MAX = 16383  # the format has 14 bits for a side
PYRAMID_MAX = 6

CONVS_PER_BLOCK = (2, 2, 4, 4, 4)  # VGG19
LAYERS = tuple(
    f"relu{block}_{conv}"
    for block, count in enumerate(CONVS_PER_BLOCK, start=1)
    for conv in range(1, count + 1)
)
# As the report counts: a block's style is read at its first layer, its content at the second.
STYLE_CONV, CONTENT_CONV = 1, 2
DEFAULT_STYLE_LAYERS = tuple(f"relu{block}_{STYLE_CONV}" for block in range(1, 6))
DEFAULT_CONTENT_LAYER = f"relu4_{CONTENT_CONV}"
SIZE = 512  # px, by default
# Chosen by eye at 256, 512 and 768 px: what the photograph shows stays, strokes reach all of it.
STYLE_WEIGHT = 1600.0  # by default, at `SIZE`
STYLE_WEIGHT_NORMALIZED = 5.0
DEFAULT_LEARNING_RATES = {"lbfgs": 1.0, "adam": 10.0}

AssetId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="The id of an uploaded picture: the SHA-256 of its bytes, in hex.",
    ),
]
INTEGER_MAX = 2**53 - 1  # beyond it JavaScript, and other readers of JSON, lose digits
LayerWeights = Annotated[dict[str, Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1)]
LayerNames = Annotated[list[str], Field(min_length=1)]
Format = Literal["png", "jpeg", "webp"]


def layer_name(name: str, *, conv_of_block: int) -> str:
    """The one name of a layer: `conv4_2` and `relu4_2` are the same, `block4` is its usual layer.

    Raises ValueError that lists what is accepted.
    """
    canonical = re.sub(r"^conv", "relu", name.strip().lower())
    if block := re.fullmatch(r"block([1-5])", canonical):
        canonical = f"relu{block[1]}_{conv_of_block}"
    if canonical not in LAYERS:
        raise ValueError(
            f"no layer is called {name!r}; accepted: {LAYERS[0]} to {LAYERS[-1]}"
            f" ({', '.join(LAYERS)}), the same as conv..., or block1 to block5"
        )
    return canonical


def _layers(conv_of_block: int) -> BeforeValidator:
    """Accepts {name: weight} or [name, ...] (equal weights that add up to 1)."""

    def canonical(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            named = [(name, 1 / len(value)) for name in value]
        elif isinstance(value, dict):
            named = list(value.items())
        else:
            return value
        layers: dict[str, Any] = {}
        for name, weight in named:
            layer = layer_name(str(name), conv_of_block=conv_of_block)
            if layer in layers:
                raise ValueError(f"{layer} is named twice")
            layers[layer] = weight
        return layers

    return BeforeValidator(canonical, json_schema_input_type=LayerWeights | LayerNames)


def _in_network_order(layers: LayerWeights) -> LayerWeights:
    return {name: layers[name] for name in LAYERS if name in layers}


class _Strict(BaseModel):
    # A misspelt field must not be ignored, and "512" or true is not a number.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,  # what is written out has every field
    )


class Style(_Strict):
    """One painting and its share of the style."""

    asset: AssetId
    weight: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="This style's share; the shares of all styles are scaled to add up to 1.",
    )
    mask: AssetId | None = Field(
        default=None,
        description="Where this style applies: the id of a grey picture, 64 hex digits,"
        " white where it does; scaled to the canvas. Without one, everywhere.",
    )


def _style(value: Any) -> Any:
    return {"asset": value} if isinstance(value, str) else value


def _shares(styles: list[Style]) -> list[Style]:
    total = sum(style.weight for style in styles)
    if abs(total - 1) < 1e-12:
        return styles  # a spec that is read again stays as it is, to the bit
    return [style.model_copy(update={"weight": style.weight / total}) for style in styles]


class RenderSpec(_Strict):
    """What decides the picture."""

    content: AssetId = Field(
        description="The picture whose shapes are kept: an asset's id, 64 hex digits."
    )
    styles: Annotated[
        list[Annotated[Style, BeforeValidator(_style, json_schema_input_type=Style | AssetId)]],
        AfterValidator(_shares),
    ] = Field(
        min_length=1,
        max_length=STYLES_MAX,
        description="The paintings whose look is taken: asset ids, or {asset, weight, mask}.",
    )
    size: int = Field(
        default=SIZE,
        ge=SIZE_MIN,
        le=SIZE_MAX,
        description="The long side of the result, in px; the content's proportions are kept.",
    )
    iterations: int = Field(
        default=200,
        ge=1,
        le=ITERATIONS_MAX,
        description="How many steps the optimiser takes.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=ITERATIONS_MAX,
        description="Stops when the loss has not fallen by 0.1 % over so many iterations;"
        " 0: never.",
    )
    pyramid: int = Field(
        default=2,
        ge=1,
        le=PYRAMID_MAX,
        description="How many sizes are rendered, coarse to fine: the last is size, each is half"
        " of the next, those under 32 px are left out. The coarser share half of the iterations,"
        " at most 25 each. 1, the report's, is size alone.",
    )
    optimizer: Literal["lbfgs", "adam"] = Field(
        default="lbfgs",
        description="lbfgs, the report's, gets further in few steps; adam needs less memory.",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=255,
        validate_default=True,
        description="Step length: a factor for lbfgs (default 1),"
        " in grey levels of 0..255 for adam (default 10).",
    )
    init: Literal["content", "noise", "style", "asset"] = Field(
        default="content",
        description="What the first iteration starts from; noise, the report's, is Gaussian.",
    )
    init_asset: AssetId | None = Field(
        default=None,
        description="The picture to start from, with init: asset; its id, 64 hex digits.",
    )
    seed: int = Field(default=0, ge=0, le=INTEGER_MAX, description="Decides the noise.")
    content_layers: Annotated[
        LayerWeights, _layers(CONTENT_CONV), AfterValidator(_in_network_order)
    ] = Field(
        default={DEFAULT_CONTENT_LAYER: 1.0},
        description="Where content is compared: {layer: weight} or [layer];"
        " relu4_2 and conv4_2 are the same, block4 means relu4_2.",
    )
    style_layers: Annotated[
        LayerWeights, _layers(STYLE_CONV), AfterValidator(_in_network_order)
    ] = Field(
        default={name: 1 / len(DEFAULT_STYLE_LAYERS) for name in DEFAULT_STYLE_LAYERS},
        description="Where style is compared: {layer: weight} or [layer]; block4 means relu4_1.",
    )
    normalize_gradients: bool = Field(
        default=False,
        description="Scales each loss's gradient to the same size before it is weighted.",
    )
    content_weight: float = Field(
        default=1.0, ge=0, le=1e12, description="alpha: the content loss's factor."
    )
    style_weight: float | None = Field(
        default=None,
        ge=0,
        le=1e12,
        validate_default=True,
        description="beta: the style loss's factor. The content loss is a sum over positions, so"
        f" for one look it grows with size squared; by default it is {STYLE_WEIGHT:g} at"
        f" {SIZE} px, 400 at 256 px. {STYLE_WEIGHT_NORMALIZED:g} with normalize_gradients.",
    )
    tv_weight: float = Field(
        default=0.0,
        ge=0,
        le=1e12,
        description="The total variation's factor: more is smoother; the report has none.",
    )
    pooling: Literal["avg", "max"] = Field(
        default="avg", description="avg, as the report prefers for its smoother gradient, or max."
    )
    style_scale: float = Field(
        default=1.0,
        ge=0.1,
        le=4,
        description="The style's long side as a multiple of size: more makes its strokes larger,"
        f" less makes them finer. It is at most {STYLE_SIDE_MAX} px, whatever the size.",
    )
    original_colors: Literal["none", "luminance", "histogram", "covariance"] = Field(
        default="none",
        description="luminance keeps the content's colours and takes only the style's light;"
        " histogram and covariance give each style the content's colours before the render.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Of the convolutions; auto is bfloat16 where the device is faster in it."
        " float32 is reproducible to the bit on one machine.",
    )
    format: Format = Field(
        default="png",
        description="The result's file: png is lossless, jpeg and webp are lossy."
        " What is transparent in the content stays so, but for jpeg, where it lies on white.",
    )
    bits: Literal[8, 16] = Field(
        default=8, description="Of each channel of the result; 16 only with png."
    )
    quality: int = Field(
        default=92,
        ge=1,
        le=100,
        description="Of a jpeg or webp: more is larger and nearer to the picture; png has none.",
    )

    @field_validator("learning_rate")
    @classmethod
    def _default_rate(cls, rate: float | None, info: ValidationInfo) -> float | None:
        return DEFAULT_LEARNING_RATES.get(info.data.get("optimizer", "")) if rate is None else rate

    @field_validator("style_weight")
    @classmethod
    def _default_style_weight(cls, weight: float | None, info: ValidationInfo) -> float:
        if weight is not None:
            return weight
        if info.data.get("normalize_gradients"):
            return STYLE_WEIGHT_NORMALIZED
        size: int = info.data.get("size", SIZE)  # it is not there if it was refused
        return STYLE_WEIGHT * (size / SIZE) ** 2

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.init == "asset") != (self.init_asset is not None):
            raise ValueError("init_asset is needed with init: asset, and only then")
        if self.content_weight == self.style_weight == 0:
            raise ValueError("content_weight and style_weight cannot both be 0")
        if self.bits == 16 and self.format != "png":
            raise ValueError(f"bits is 16, accepted with format: {self.format}: 8; 16 needs png")
        if self.format == "webp" and self.size > WEBP_SIDE_MAX:
            raise ValueError(
                f"size is {self.size}, accepted with format: webp: at most {WEBP_SIDE_MAX}"
            )
        return self

    @property
    def style_side(self) -> int:
        """The long side, in px, that the styles are scaled to."""
        return max(1, min(STYLE_SIDE_MAX, round(self.size * self.style_scale)))

    @property
    def media_type(self) -> str:
        """The result's."""
        return f"image/{self.format}"

    def assets(self) -> list[str]:
        """The ids of all pictures that this spec needs, each once."""
        styles = (asset for style in self.styles for asset in (style.asset, style.mask))
        named = [self.content, *styles, self.init_asset]
        return list(dict.fromkeys(asset for asset in named if asset))


LABEL_NAME = r"[A-Za-z0-9_./-]{1,200}"  # no colon: the API's filter is name:value
LABEL_VALUE = r"[^\x00-\x1f\x7f]{1,200}"  # Postgres, for one, keeps no NUL
LabelName = Annotated[
    str,
    Field(pattern=f"^{LABEL_NAME}$", description="1 to 200 letters, digits and any of _ . / -"),
]
LabelValue = Annotated[
    str,
    Field(pattern=f"^{LABEL_VALUE}$", description="1 to 200 characters, no control characters"),
]


class JobSpec(RenderSpec):
    """What a client submits: the picture, and how the job is to be treated."""

    snapshot_every: int = Field(
        default=50,
        ge=0,
        le=ITERATIONS_MAX,
        description="A picture of the progress after every so many iterations; 0 for none.",
    )
    exact: bool = Field(
        default=False,
        description="Shares no pass with other renders: on a GPU their company may change the last"
        " bits of a picture; in float32 on a CPU it changes none.",
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher is rendered first.")
    labels: dict[LabelName, LabelValue] = Field(
        default={}, max_length=16, description="Your own words, to find the job again by."
    )
    deadline_seconds: float | None = Field(
        default=None,
        gt=0,
        le=30 * 86400,
        description="After so many seconds from submission the job fails instead of going on.",
    )

    def render_spec(self) -> RenderSpec:
        return RenderSpec.model_validate(self.model_dump(include=set(RenderSpec.model_fields)))

    def digest(self) -> str:
        """The SHA-256, in hex, of what decides the picture: equal meaning, equal digest."""
        return digest(self.render_spec())


def digest(spec: RenderSpec) -> str:
    meaning = {"version": SPEC_VERSION, **spec.model_dump()}
    if spec.init != "noise":
        del meaning["seed"]  # nothing else is random
    if spec.format == "png":
        del meaning["quality"]  # nothing is lost
    canonical = json.dumps(_rounded(meaning), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _rounded(value: Any) -> Any:
    # 1/3 + 1/3 + 1/3 and 1.0 are the same share, whatever the last bits say.
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.12g}") + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0
