"""A job to be: its spec and its pictures, checked as far as that goes without a server."""

import os
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from impasto.shared.errors import InvalidSpec, Violation
from impasto.shared.object_keys import digest
from impasto.shared.spec import JobSpec
from impasto.shared.violations import presentable, violations

Picture = str | os.PathLike[str] | bytes
"""The path of a picture, or the bytes of one."""

Styles = Picture | Iterable[Picture | tuple[Picture, float]] | Mapping[Any, float]
"""One painting, several with equal shares, (painting, weight) pairs, or {painting: weight}."""


@dataclass(frozen=True)
class File:
    """The bytes of a picture, and what a person calls it."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Order:
    """What to render."""

    spec: JobSpec
    files: Mapping[str, File]  # by asset id: every picture that the spec names

    @classmethod
    def of(
        cls,
        content: Picture,
        styles: Styles,
        *,
        masks: Iterable[Picture | None] = (),
        **fields: Any,
    ) -> Self:
        """masks: where each style applies, in their order; None, or none left: everywhere.
        fields: the other fields of `JobSpec`; init_asset is a picture here.

        Raises OSError if a file cannot be read, and InvalidSpec.
        """
        files: dict[str, File] = {}

        def asset(picture: Picture, field: str) -> str:
            file = _file(picture, field)
            files[digest(file.data)] = file
            return digest(file.data)

        fields["content"] = asset(content, "content")
        fields["styles"] = [
            {"asset": asset(style, "style"), "weight": share} for style, share in _shares(styles)
        ]
        for style, mask in zip(fields["styles"], _masks(masks, fields["styles"]), strict=False):
            style["mask"] = None if mask is None else asset(mask, "mask")
        if fields.get("init_asset") is not None:
            fields["init_asset"] = asset(fields["init_asset"], "init_asset")
            fields.setdefault("init", "asset")
        try:
            return cls(JobSpec.model_validate(fields), files)
        except ValidationError as error:
            found = [_named(violation, fields, files) for violation in violations(error, JobSpec)]
            raise InvalidSpec(violations=found) from error

    def names(self) -> dict[str, str]:
        """What a person calls each picture, by the field of the spec that it stands for."""
        named = {"content": self.spec.content, "init_asset": self.spec.init_asset}
        for index, style in enumerate(self.spec.styles):
            named |= {f"styles.{index}.asset": style.asset, f"styles.{index}.mask": style.mask}
        return {field: self.files[asset].name for field, asset in named.items() if asset}


def _named(violation: Violation, fields: Mapping[str, Any], files: Mapping[str, File]) -> Violation:
    """A violation that says a file's name where a spec has its digest."""
    if violation.field == "styles":
        names = [files[style["asset"]].name for style in fields["styles"]]
        return replace(violation, value=presentable(f"{len(names)} pictures: {', '.join(names)}"))
    return violation


def _file(picture: Picture, field: str) -> File:
    if isinstance(picture, bytes):
        return File(field, picture)
    return File(os.fspath(picture), Path(picture).read_bytes())


def _shares(styles: Styles) -> list[tuple[Picture, float]]:
    if isinstance(styles, Mapping):
        return list(styles.items())
    if isinstance(styles, str | bytes | os.PathLike):
        styles = [styles]
    return [style if isinstance(style, tuple) else (style, 1.0) for style in styles]


def _masks(masks: Iterable[Picture | None], styles: Sized) -> list[Picture | None]:
    given = list(masks)
    if len(given) > len(styles):
        accepted = f"at most {len(styles)}, one for each style in order"
        raise InvalidSpec(violations=[Violation("mask", f"{len(given)} in number", accepted)])
    return given
