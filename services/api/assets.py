"""Pictures that jobs are made of, addressed by the SHA-256 of their bytes."""

from apiflask import APIBlueprint
from flask import Response

from impasto.shared import object_keys
from impasto.shared.database import assets as table
from impasto.shared.errors import (
    AssetNotFound,
    BodyTooLarge,
    InvalidImage,
    InvalidRequest,
    UnsupportedMediaType,
)
from impasto.shared.pictures.codec import MEDIA_TYPES

from .. import submission
from ..schemas import AssetDocument, Located, asset_url
from . import bodies, objects, openapi
from .connections import connections

assets = APIBlueprint("assets", __name__, url_prefix="/v1/assets", tag="Assets")


@assets.post("")
@assets.output(AssetDocument, status_code=201, description="The picture is kept.", headers=Located)
@assets.doc(
    responses={200: openapi.document(AssetDocument, "It was here already.", headers=Located)}
    | openapi.refusals(BodyTooLarge, UnsupportedMediaType, InvalidImage, InvalidRequest),
    extensions={"requestBody": bodies.PICTURE_BODY},
)
def upload() -> tuple[AssetDocument, int, dict[str, str]]:
    """Upload a picture.

    It is decoded before it is accepted. The same bytes always have the same id.
    """
    here = connections()
    asset, is_new = submission.upload(
        here.database, here.storage, bodies.picture(), inspections=here.inspections
    )
    return AssetDocument.of(asset), 201 if is_new else 200, {"Location": asset_url(asset.id)}


@assets.get("/<asset_id>")
@assets.output(AssetDocument, description="The picture's form and size.")
@assets.doc(responses=openapi.refusals(AssetNotFound))
def show(asset_id: str) -> AssetDocument:
    """Describe a picture.

    Whether it was uploaded already, and what is known of it.
    """
    return AssetDocument.of(table.get(connections().database, asset_id))


@assets.get("/<asset_id>/content")
@assets.doc(
    responses={200: openapi.file("The bytes that were uploaded.", *MEDIA_TYPES)}
    | openapi.NOT_MODIFIED
    | openapi.refusals(AssetNotFound)
)
def content(asset_id: str) -> Response:
    """Download a picture.

    The bytes are those that were uploaded.
    """
    asset = table.get(connections().database, asset_id)
    return objects.stream(
        object_keys.asset(asset.id),
        media_type=asset.media_type,
        filename=f"{asset.id[:12]}.{asset.media_type.removeprefix('image/')}",
        etag=asset.id,
        size_bytes=asset.size_bytes,
    )
