"""One painting of a spec, and its share."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from .limits import SHARE_MIN

AssetId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="The id of an uploaded picture: the SHA-256 of its bytes, in hex.",
    ),
]


class Strict(BaseModel):
    # A misspelt field must not be ignored, and "512" or true is not a number.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        json_schema_serialization_defaults_required=True,  # what is written out has every field
    )


class Style(Strict):
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


def as_style(value: Any) -> Any:
    return {"asset": value} if isinstance(value, str) else value


def shares(styles: list[Style]) -> list[Style]:
    total = sum(style.weight for style in styles)
    if abs(total - 1) < 1e-12:
        return styles  # a spec that is read again stays as it is, to the bit
    scaled = [style.model_copy(update={"weight": style.weight / total}) for style in styles]
    for index, (style, share) in enumerate(zip(styles, scaled, strict=True)):
        if share.weight < SHARE_MIN:
            raise ValueError(
                f"the weight of style {index} is {style.weight:g} of {total:g} in all; accepted: at"
                f" least {SHARE_MIN:g} of their sum, or without that style"
            )
    return scaled
