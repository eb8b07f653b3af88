"""What decides the picture."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .. import recipes
from ..recipes import RecipeName
from .layers import DEFAULT_STYLE_LAYERS, ContentLayers, StyleLayers
from .limits import (
    COARSEST,
    CONTENT_LAYERS,
    DEFAULT_LEARNING_RATES,
    EXACT,
    FACTOR_MAX,
    FACTOR_MIN,
    INTEGER_MAX,
    ITERATIONS_MAX,
    LEARNING_RATE_MIN,
    PYRAMID_MAX,
    REACH_MIN,
    SIZE,
    SIZE_MAX,
    SIZE_MIN,
    STRENGTH,
    STYLE_SIDE_MAX,
    STYLE_WEIGHT,
    STYLE_WEIGHT_NORMALIZED,
    STYLES_MAX,
    TV_WEIGHT,
    WEBP_SIDE_MAX,
)
from .style import AssetId, Strict, Style, as_style, shares

Format = Literal["png", "jpeg", "webp"]


def _not_vanishing(factor: float | None) -> float | None:
    if factor and factor < FACTOR_MIN:
        raise ValueError(f"0, or at least {FACTOR_MIN:g} and at most {FACTOR_MAX:g}")
    return factor


Factor = Annotated[float, Field(ge=0, le=FACTOR_MAX), AfterValidator(_not_vanishing)]


# Each of them says in the report's terms what `strength` says for all pairs.
_BY_WEIGHTS = ("content_weight", "style_weight", "normalize_gradients")


def weights_in(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are named; a weight of 0 is one."""
    named = {name: fields.get(name) for name in _BY_WEIGHTS}
    return {
        name: value for name, value in named.items() if value is not None and value is not False
    }


class RenderSpec(Strict):
    """What decides the picture."""

    content: AssetId = Field(
        description="The picture whose shapes are kept: an asset's id, 64 hex digits."
    )
    styles: Annotated[
        list[Annotated[Style, BeforeValidator(as_style, json_schema_input_type=Style | AssetId)]],
        AfterValidator(shares),
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
        " 1 the painting's texture on what forms are left. One scale for every pair, size and"
        " choice of layers. Instead of content_weight, style_weight and normalize_gradients; null"
        " where one of them is named.",
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
    content_layers: ContentLayers = Field(
        default=CONTENT_LAYERS,
        description="Where content is compared: {layer: weight} or [layer];"
        " relu4_2 and conv4_2 are the same, block4 means relu4_2. Beside named weights relu4_2"
        " by default. Empty, nothing of it is asked for: a texture.",
    )
    style_layers: StyleLayers = Field(
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
        " strength it is of the painting's own variation, and grows with strength; beside weights a"
        " factor like theirs, 0 by default.",
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
        " most where the photograph is flat, and less of it below half strength; what would be"
        " clipped is pressed together. none, the default beside weights, leaves pixels as they"
        " were optimised.",
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
            is_other = "strength" in named or bool(weights_in(named))
            fields = recipe.fields.items()
            named = {n: v for n, v in fields if not (is_other and n in other)} | named
        if "strength" not in named:
            if weights_in(named):
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
            for name, value in weights_in({n: getattr(self, n) for n in _BY_WEIGHTS}).items():
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
        if not self.content_layers and 0 in (self.strength, self.style_weight):
            name = "style_weight" if self.strength is None else "strength"
            raise ValueError(
                f"{name} is 0, accepted with content_layers: {{}}: more than 0, for nothing else"
                " says what the result is to be"
            )
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
    if weights_in(given):
        dropped.add("strength")
    if given.get("original_colors", "none") != "none":
        dropped.add("content_colors")
    return {name: value for name, value in fields.items() if name not in dropped} | {**given}
