"""What a client asks for: every field with its unit, bound, default and a sentence.

`RenderSpec` holds what decides the picture, and its digest names that meaning: two specs that ask
for the same picture have the same digest, however they were written. `JobSpec` adds what decides
only how the job is treated.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
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

from . import recipes
from .recipes import RecipeName

SPEC_VERSION = 3  # part of the digest: raise it when the same fields start to mean another picture

SIZE_MIN, SIZE_MAX = 64, 16384  # below 64 px the deepest layers see next to nothing
PICTURE_SIDE_MIN = 8  # of a content or a style, as it came: fewer are a blot of colour
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
SIZE = 512  # px, by default
STRENGTH = 0.5
COARSEST = 128  # px: below, nothing of most photographs can be told
# By strength, from two layers: a face keeps its eyes by the finer one. Judged on twelve pairs.
CONTENT_LAYERS = {"relu3_2": 0.5, "relu4_2": 0.5}
TV_WEIGHT = 0.05
STYLE_WEIGHT = 1600.0  # by default beside a content_weight, at `SIZE`: gentle
# What is left out means this where the weights are named: the report's.
EXACT = {
    "iterations": 200,
    "content_weight": 1.0,
    "content_layers": {f"relu4_{CONTENT_CONV}": 1.0},
    "tv_weight": 0.0,
    "pyramid": 2,
    "pooling": "avg",
    "content_colors": "own",
    "finish": "none",
}
STYLE_WEIGHT_NORMALIZED = 5.0
LEARNING_RATE_MIN = 1e-4
DEFAULT_LEARNING_RATES = {"lbfgs": 1.0, "adam": 10.0}

AssetId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="The id of an uploaded picture: the SHA-256 of its bytes, in hex.",
    ),
]
INTEGER_MAX = 2**53 - 1  # beyond it JavaScript, and other readers of JSON, lose digits
# Smaller shares would be less than a last bit of float32 beside the others, smaller factors would
# underflow in the gradients. A layer's weight makes up for its energy: what `effective` in a
# manifest names, from layers 1e7 apart, has to be accepted as a spec.
SHARE_MIN = 1e-4
LAYER_WEIGHT_MIN, LAYER_WEIGHT_MAX = 1e-9, 1e6
FACTOR_MIN, FACTOR_MAX = 1e-12, 1e12
# How far all steps together must lead for a pixel to change: seen at 48 px, where lbfgs moved none
# at a learning rate of 1e-4 over 10 iterations, and adam none at 0.01. Adam's are grey levels.
REACH_MIN = {"lbfgs": 1e-3, "adam": 0.5}
LayerWeight = Annotated[float, Field(ge=LAYER_WEIGHT_MIN, le=LAYER_WEIGHT_MAX)]
LayerWeights = Annotated[dict[str, LayerWeight], Field(min_length=1)]
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
        ge=SHARE_MIN,
        le=1000,
        description="This style's share; the shares of all styles are scaled to add up to 1.",
    )
    mask: AssetId | None = Field(
        default=None,
        description="Where this style applies: the id of a grey picture, 64 hex digits,"
        " white where it does; scaled to the canvas. Without one, everywhere.",
    )


def _not_vanishing(factor: float | None) -> float | None:
    if factor and factor < FACTOR_MIN:
        raise ValueError(f"0, or at least {FACTOR_MIN:g} and at most {FACTOR_MAX:g}")
    return factor


Factor = Annotated[float, Field(ge=0, le=FACTOR_MAX), AfterValidator(_not_vanishing)]


def _style(value: Any) -> Any:
    return {"asset": value} if isinstance(value, str) else value


def _shares(styles: list[Style]) -> list[Style]:
    total = sum(style.weight for style in styles)
    if abs(total - 1) < 1e-12:
        return styles  # a spec that is read again stays as it is, to the bit
    shares = [style.model_copy(update={"weight": style.weight / total}) for style in styles]
    for index, (style, share) in enumerate(zip(styles, shares, strict=True)):
        if share.weight < SHARE_MIN:
            raise ValueError(
                f"the weight of style {index} is {style.weight:g} of {total:g} in all; accepted: at"
                f" least {SHARE_MIN:g} of their sum, or without that style"
            )
    return shares


# Each of them says in the report's terms what `strength` says for all pairs.
_BY_WEIGHTS = ("content_weight", "style_weight", "normalize_gradients")


def _weights_in(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are named; a weight of 0 is one."""
    named = {name: fields.get(name) for name in _BY_WEIGHTS}
    return {
        name: value for name, value in named.items() if value is not None and value is not False
    }


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
        default=120,
        ge=1,
        le=ITERATIONS_MAX,
        description="How many steps the optimiser takes. By strength, 200 give no better picture;"
        " beside weights 200 by default.",
    )
    patience: int = Field(
        default=0,
        ge=0,
        le=ITERATIONS_MAX,
        description="Stops when the loss has not fallen by 0.1 % over so many iterations;"
        " 0: never.",
    )
    pyramid: int | None = Field(
        default=None,
        ge=1,
        le=PYRAMID_MAX,
        validate_default=True,
        description="How many sizes are rendered, coarse to fine: the last is size, each is half"
        f" of the next. The default leads up from {COARSEST} px: one look at every size. The"
        " coarser share half of the iterations. 1, the report's, is size alone. Beside weights 2,"
        " and at most 25 iterations each.",
    )
    strength: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=f"How much of the style: 0 the photograph, {STRENGTH:g} (the default) both,"
        " 1 the painting. Alike for every pair, size and choice of layers. Instead of"
        " content_weight, style_weight and normalize_gradients; null where one of them is named.",
    )
    optimizer: Literal["lbfgs", "adam"] = Field(
        default="lbfgs",
        description="lbfgs, the report's, gets further in few steps; adam needs less memory.",
    )
    learning_rate: float | None = Field(
        default=None,
        ge=LEARNING_RATE_MIN,
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
        default=CONTENT_LAYERS,
        description="Where content is compared: {layer: weight} or [layer];"
        " relu4_2 and conv4_2 are the same, block4 means relu4_2. Beside named weights relu4_2"
        " by default.",
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
    content_weight: Factor | None = Field(
        default=None,
        description="alpha: the content loss's factor; 0 leaves it out. Instead of strength; 1 by"
        " default beside a style_weight.",
    )
    style_weight: Factor | None = Field(
        default=None,
        validate_default=True,
        description="beta: the style loss's factor. Instead of strength. The"
        " content loss is a sum over positions, so for one look it grows with size squared; by"
        f" default it is {STYLE_WEIGHT:g} at"
        f" {SIZE} px, 400 at 256 px. {STYLE_WEIGHT_NORMALIZED:g} with normalize_gradients.",
    )
    tv_weight: Factor = Field(
        default=TV_WEIGHT,
        description="The total variation's factor: more is smoother; the report has none. By"
        " strength it is of the painting's own variation, most at half strength and none at 0 and"
        " at 1; beside weights a factor like theirs, 0 by default.",
    )
    pooling: Literal["avg", "max"] = Field(
        default="max",
        description="max keeps eyes and edges crisp, and flat parts flat; avg, the report's and the"
        " default beside weights, has bolder strokes, a lower loss and here and there a mesh.",
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
        description="none: the painting's. luminance keeps the content's, and takes only the"
        " style's light. covariance gives each style the content's mean colour and spread before"
        " the render; histogram the levels of each channel, which may give hues of neither.",
    )
    content_colors: Literal["style", "own"] = Field(
        default="style",
        description="style gives the content the styles' mean colour and spread before the render,"
        " less of it below half strength; own leaves it, the default beside weights or"
        " original_colors.",
    )
    finish: Literal["smooth", "none"] = Field(
        default="smooth",
        description="smooth takes coloured grain and the network's grid of 2 px from the picture,"
        " less of it below half strength: colours are as fine as some 5 px, light as ever; none,"
        " the default beside weights, leaves pixels as they were optimised.",
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

    recipe: RecipeName | None = Field(
        default=None,
        description="Settings that go together, by name, in place of the defaults;"
        " `impasto recipes` tells what each means.",
    )

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        """What is left out: as the recipe says it, and then as the weights or the strength do."""
        if not isinstance(given, dict):
            return given
        unsaid = (*_BY_WEIGHTS, "strength", "recipe")
        named = {n: v for n, v in given.items() if v is not None or n not in unsaid}
        if recipe := recipes.find(named.get("recipe")):
            other = _BY_WEIGHTS if named.get("strength") is not None else ("strength",)
            is_other = "strength" in named or bool(_weights_in(named))
            fields = recipe.fields.items()
            named = {n: v for n, v in fields if not (is_other and n in other)} | named
        if "strength" not in named:
            if _weights_in(named):
                named = EXACT | named
            else:
                named["strength"] = STRENGTH
        if named.get("original_colors", "none") != "none":
            named.setdefault("content_colors", "own")
        return named

    @field_validator("pyramid")
    @classmethod
    def _default_pyramid(cls, pyramid: int | None, info: ValidationInfo) -> int:
        size: int = info.data.get("size", SIZE)
        return pyramid or max(1, min(PYRAMID_MAX, (size // COARSEST).bit_length()))

    @field_validator("learning_rate")
    @classmethod
    def _default_rate(cls, rate: float | None, info: ValidationInfo) -> float | None:
        return DEFAULT_LEARNING_RATES.get(info.data.get("optimizer", "")) if rate is None else rate

    @field_validator("style_weight")
    @classmethod
    def _default_style_weight(cls, weight: float | None, info: ValidationInfo) -> float | None:
        if weight is not None or info.data.get("strength") is not None:
            return weight
        if info.data.get("normalize_gradients"):
            return STYLE_WEIGHT_NORMALIZED
        size: int = info.data.get("size", SIZE)  # it is not there if it was refused
        return STYLE_WEIGHT * (size / SIZE) ** 2

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.init == "asset") != (self.init_asset is not None):
            raise ValueError("init_asset is needed with init: asset, and only then")
        if self.strength is not None:
            for name, value in _weights_in({n: getattr(self, n) for n in _BY_WEIGHTS}).items():
                raise ValueError(
                    f"strength is {self.strength:g} beside a {name} of {value}, accepted: one of"
                    " the two"
                )
        if self.content_colors == "style" and self.original_colors != "none":
            raise ValueError(
                f"content_colors is style, accepted with original_colors: {self.original_colors}:"
                " own"
            )
        if self.content_weight == self.style_weight == 0:
            raise ValueError("content_weight and style_weight cannot both be 0")
        if self.init == "content" and self.style_weight == self.tv_weight == 0:
            raise ValueError(
                "style_weight is 0, accepted with init: content and tv_weight: 0: more than 0, for"
                " nothing else leads away from the content"
            )
        reach, least = (self.learning_rate or 0) * self.iterations, REACH_MIN[self.optimizer]
        if reach < least:
            raise ValueError(
                f"learning_rate is {self.learning_rate:g} over {self.iterations} iterations,"
                f" accepted with optimizer: {self.optimizer}: at least"
                f" {least / self.iterations:g}, for less changes no pixel"
            )
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

    def named_assets(self) -> Iterator[tuple[str, str]]:
        """The pictures' ids, each with the field that names it."""
        yield "content", self.content
        for index, style in enumerate(self.styles):
            yield f"styles.{index}.asset", style.asset
            if style.mask:
                yield f"styles.{index}.mask", style.mask
        if self.init_asset:
            yield "init_asset", self.init_asset

    def assets(self) -> list[str]:
        """The ids of all pictures that this spec needs, each once."""
        return list(dict.fromkeys(asset for _, asset in self.named_assets()))


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
    snapshot_format: Literal["jpeg", "png"] = Field(
        default="jpeg",
        description="Of the pictures of the progress: jpeg is small, png is lossless.",
    )
    exact: bool = Field(
        default=False,
        description="Shares no pass with other renders: on a GPU a batch may change the last"
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


def overridden(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec that was written out, with others in their place.

    What contradicts these is left out: weights beside a strength, a strength beside weights, what a
    recipe says otherwise.
    """
    dropped: set[str] = set()
    if recipe := recipes.find(given.get("recipe")):
        dropped |= {*recipe.fields, *_BY_WEIGHTS, "strength"}
    if given.get("strength") is not None:
        dropped |= set(_BY_WEIGHTS)
    if _weights_in(given):
        dropped.add("strength")
    if given.get("original_colors", "none") != "none":
        dropped.add("content_colors")
    return {name: value for name, value in fields.items() if name not in dropped} | {**given}


def digest(spec: RenderSpec) -> str:
    meaning = {"version": SPEC_VERSION, **spec.model_dump()}
    del meaning["recipe"]  # its fields say it
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
