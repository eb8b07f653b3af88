"""Pictures that were uploaded."""

from datetime import datetime
from typing import Self

from pydantic import Field

from impasto.shared.database.assets import Asset

from .base import Document


class AssetDocument(Document):
    """An uploaded picture."""

    id: str = Field(description="The SHA-256 of the bytes, in hex; what a spec refers to.")
    media_type: str
    width: int = Field(description="In px, as it is shown: EXIF orientation applied.")
    height: int
    size_bytes: int
    warnings: list[str] = Field(
        description="What the file says of its colours that is not supported."
    )
    created_at: datetime

    @classmethod
    def of(cls, asset: Asset) -> Self:
        return cls.model_validate(asset, from_attributes=True)


def asset_url(asset_id: str) -> str:
    return f"/v1/assets/{asset_id}"
