"""Taking in pictures and jobs: everything is checked before the first byte is stored."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from impasto.shared import object_keys
from impasto.shared.database import Database, assets, jobs
from impasto.shared.database.assets import Asset
from impasto.shared.database.jobs import Job
from impasto.shared.errors import AssetNotFound, InvalidSpec, ObjectNotFound, Violation
from impasto.shared.pictures.codec import Facts
from impasto.shared.sizes import canvas
from impasto.shared.spec import PICTURE_SIDE_MIN, SHORT_SIDE_MIN, JobSpec
from impasto.shared.storage import Storage
from impasto.shared.violations import presentable, violations
from impasto.shared.wakeups import WakeUps

from .job_warnings import find_warnings
from .uploads import Inspections, Upload


@dataclass(frozen=True)
class Order:
    """A job as a client asks for it: a spec's JSON, and pictures sent along in place of ids."""

    document: Any
    content: Upload | None = None
    styles: Sequence[Upload] = ()
    masks: Sequence[Upload] = ()  # of the first styles, in their order
    init: Upload | None = None

    def pictures(self) -> Iterator[tuple[str, Upload]]:
        """The pictures that were sent along, by the field of the spec that they stand for."""
        if self.content:
            yield "content", self.content
        for index, style in enumerate(self.styles):
            yield f"styles.{index}.asset", style
        for index, mask in enumerate(self.masks):
            yield f"styles.{index}.mask", mask
        if self.init:
            yield "init_asset", self.init


def upload(
    database: Database, storage: Storage, file: Upload, *, inspections: Inspections
) -> tuple[Asset, bool]:
    """The asset, and whether it is new; what is stored is not decoded again.

    Raises InvalidImage, or Unavailable.
    """
    if known := assets.find(database, [file.id]).get(file.id):
        return known, False
    return _keep(database, storage, file, inspections.picture(file))


def submit(
    database: Database,
    storage: Storage,
    wakeups: WakeUps,
    order: Order,
    *,
    inspections: Inspections,
    idempotency_key: str | None = None,
) -> tuple[Job, bool]:
    """The queued job, and whether it is new; with a key that was used before, the job of then.

    Raises InvalidSpec, InvalidImage, AssetNotFound, IdempotencyConflict or Unavailable; nothing is
    stored then.
    """
    spec = _spec(order)
    if idempotency_key and (job := jobs.find_by_idempotency_key(database, spec, idempotency_key)):
        return job, False
    sent = {file.id: file for _, file in order.pictures()}
    known = assets.find(database, spec.assets())
    facts = {
        file.id: inspections.picture(file, field=field)
        for field, file in order.pictures()
        if file.id not in known
    }
    pictures: dict[str, Asset | Facts] = {**known, **facts}
    sizes = _sizes(spec, pictures)
    _check_masks(storage, spec, sent, inspections)
    _check_sides(spec, sizes)
    _check_proportions(spec, sizes)
    for asset_id, found in facts.items():
        _keep(database, storage, sent[asset_id], found)
    job, is_new = jobs.submit(
        database,
        spec,
        canvas(*sizes[spec.content], spec.size),
        idempotency_key=idempotency_key,
        warnings=find_warnings(spec, pictures),
    )
    if is_new:
        wakeups.notify()
    return job, is_new


def _keep(database: Database, storage: Storage, file: Upload, picture: Facts) -> tuple[Asset, bool]:
    if known := assets.find(database, [file.id]).get(file.id):
        return known, False
    # Nobody finds the row before the bytes are there; without it, nobody would find bytes whose
    # upload broke off.
    assets.begin_upload(
        database,
        id=file.id,
        media_type=picture.media_type,
        width=picture.width,
        height=picture.height,
        size_bytes=len(file.data),
        warnings=picture.warnings,
    )
    storage.put(object_keys.asset(file.id), file.data, picture.media_type)
    return assets.finish_upload(database, file.id), True


def _spec(order: Order) -> JobSpec:
    document = order.document
    if isinstance(document, dict):
        document = document | dict(_references(order, document))
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise InvalidSpec(violations=violations(error, JobSpec)) from error


def _references(order: Order, document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of the spec that the pictures fill in."""
    if len(order.masks) > len(order.styles):
        accepted = f"at most {len(order.styles)}, one for each style picture in order"
        raise _invalid("mask", f"{len(order.masks)} in number", accepted)
    if order.content:
        yield "content", _sent(document, "content", order.content)
    if order.styles:
        yield "styles", _masked(_weighted(document.get("styles"), order.styles), order.masks)
    if order.init:
        yield "init_asset", _sent(document, "init_asset", order.init)
        yield "init", document.get("init", "asset")


def _sent(document: Mapping[str, Any], field: str, file: Upload, *, inside: str = "") -> str:
    if field in document:
        accepted = "nothing, since a picture was sent in its place"
        raise _invalid(f"{inside}{field}", document[field], accepted)
    return file.id


def _masked(styles: list[dict[str, Any]], masks: Sequence[Upload]) -> list[dict[str, Any]]:
    masked = [
        {**style, "mask": _sent(style, "mask", mask, inside=f"styles.{index}.")}
        for index, (style, mask) in enumerate(zip(styles, masks, strict=False))
    ]
    return masked + styles[len(masks) :]


def _weighted(told: Any, styles: Sequence[Upload]) -> list[dict[str, Any]]:
    """The spec's styles: the pictures in their order, with what the spec tells of each."""
    if told is None:
        told = [{}] * len(styles)
    are_weights = isinstance(told, list) and all(
        isinstance(style, dict) and "asset" not in style for style in told
    )
    if not are_weights or len(told) != len(styles):
        raise _invalid(
            "styles",
            told,
            f"nothing, or {len(styles)} of {{weight, mask}}, one for each style picture in order",
        )
    return [{**style, "asset": file.id} for style, file in zip(told, styles, strict=True)]


def _sizes(spec: JobSpec, known: Mapping[str, Asset | Facts]) -> dict[str, tuple[int, int]]:
    """(width, height) of every picture that the spec names, by id. Raises AssetNotFound."""
    if missing := [
        Violation(field, asset_id, "the id of a picture that was uploaded")
        for field, asset_id in spec.named_assets()
        if asset_id not in known
    ]:
        raise AssetNotFound(violations=missing)
    return {asset_id: (picture.width, picture.height) for asset_id, picture in known.items()}


def _check_masks(
    storage: Storage, spec: JobSpec, sent: Mapping[str, Upload], inspections: Inspections
) -> None:
    """Raise InvalidImage for a mask that a worker would refuse."""

    def read(asset_id: str) -> bytes:
        return sent[asset_id].data if asset_id in sent else storage.get(object_keys.asset(asset_id))

    for field, asset_id in spec.named_assets():
        if field.endswith(".mask"):
            with suppress(ObjectNotFound):  # the attempt tells of it
                inspections.mask(asset_id, partial(read, asset_id), field=field)


def _check_sides(spec: JobSpec, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise InvalidSpec for a content or a style of so few pixels that it shows nothing.

    Masks and init_asset may be as small: one pixel is a colour to start from, or everywhere.
    """
    rendered = [("content", spec.content)]
    rendered += [(f"styles.{i}.asset", style.asset) for i, style in enumerate(spec.styles)]
    if too_small := [
        Violation(
            field,
            f"{sizes[asset_id][0]} x {sizes[asset_id][1]} px",
            f"a picture of at least {PICTURE_SIDE_MIN} px a side",
        )
        for field, asset_id in rendered
        if min(sizes[asset_id]) < PICTURE_SIDE_MIN
    ]:
        raise InvalidSpec(violations=too_small)


def _check_proportions(spec: JobSpec, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise InvalidSpec if a picture, at the size it is rendered at, is too narrow to be seen."""
    too_narrow = []
    # Neither masks nor init_asset: they are fitted to the canvas, whatever their proportions.
    rendered = [("content", spec.content, spec.size)]
    rendered += [
        (f"styles.{index}.asset", style.asset, spec.style_side)
        for index, style in enumerate(spec.styles)
    ]
    for field, asset_id, long_side in rendered:
        width, height = sizes[asset_id]
        scaled = canvas(width, height, long_side)
        if min(scaled) < SHORT_SIDE_MIN:
            too_narrow.append(
                Violation(
                    field,
                    f"{width} x {height} px, rendered at {scaled[0]} x {scaled[1]} px",
                    f"a short side of at least {SHORT_SIDE_MIN} px when rendered:"
                    " less extreme proportions, or a larger size or style_scale",
                )
            )
    if too_narrow:
        raise InvalidSpec(violations=too_narrow)


def _invalid(field: str, value: Any, accepted: str) -> InvalidSpec:
    return InvalidSpec(violations=[Violation(field, presentable(value), accepted)])
