"""What to know of a job that is accepted, and yet may not give what its sender wants."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from impasto.shared.database.jobs import JobWarning
from impasto.shared.sizes import canvas
from impasto.shared.spec import SIZE, STRENGTH, STYLE_WEIGHT, JobSpec

# As the samples look: enlarged 8 times from 32 px they still show what they are, 16 times hardly.
ENLARGED_MAX = 8
# Seen at 48 px: at this part of the default no pixel moved by more than one grey level.
STYLE_PART_MIN = 1e-4
# Seen at 160 px: below it no value moved by more than 4 grey levels.
STRENGTH_MIN = 0.02
NOISE_ITERATIONS_MIN = 20  # before them noise is still what is mostly seen


class Picture(Protocol):
    """What is known of a picture."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def warnings(self) -> Sequence[str]:
        """What the file says of its colours that is not supported."""


def find_warnings(spec: JobSpec, pictures: Mapping[str, Picture]) -> list[JobWarning]:
    """All that is to be said of a job.

    pictures: those that the spec names, by id.
    """
    named = dict(spec.named_assets())
    return [
        *(
            JobWarning("picture", field, message)
            for field, asset in named.items()
            for message in pictures[asset].warnings
        ),
        *_of_sizes(spec, named, pictures),
        *_of_spec(spec),
    ]


def _of_sizes(
    spec: JobSpec, named: Mapping[str, str], pictures: Mapping[str, Picture]
) -> Iterator[JobWarning]:
    content = pictures[spec.content]
    whole = canvas(content.width, content.height, spec.size)
    for field, asset in named.items():
        picture = pictures[asset]
        size = picture.width, picture.height
        is_style = field.endswith(".asset")
        scaled = canvas(*size, spec.style_side) if is_style else whole
        factor = max(after / before for after, before in zip(scaled, size, strict=True))
        if factor > ENLARGED_MAX:
            yield JobWarning(
                "enlarged",
                field,
                f"it has {size[0]} x {size[1]} px and is enlarged {factor:.0f} times, to"
                f" {scaled[0]} x {scaled[1]} px: there is no detail in it; a larger picture, or a"
                f" smaller {'style_scale' if is_style else 'size'}, gives more",
            )


def _of_spec(spec: JobSpec) -> Iterator[JobWarning]:
    if spec.init == "noise" and spec.iterations < NOISE_ITERATIONS_MIN:
        yield JobWarning(
            "few_iterations",
            "iterations",
            f"{spec.iterations} from noise leave mostly noise: at least {NOISE_ITERATIONS_MIN},"
            " better some hundreds",
        )
    yield from _of_style_weight(spec)
    for index, style in enumerate(spec.styles):
        if style.asset == spec.content:
            yield JobWarning(
                "style_is_content",
                f"styles.{index}.asset",
                "it is the content itself, which has its own look already",
            )


def _of_style_weight(spec: JobSpec) -> Iterator[JobWarning]:
    if spec.strength is not None:
        if spec.strength < STRENGTH_MIN:
            yield JobWarning(
                "style_too_weak",
                "strength",
                f"{spec.strength:g} leaves the content as it is: {STRENGTH:g} is usual",
            )
        return
    content_weight = spec.content_weight or 0
    usual = STYLE_WEIGHT * (spec.size / SIZE) ** 2 * content_weight
    style_weight = spec.style_weight or 0
    is_weak = 0 < style_weight < STYLE_PART_MIN * usual
    if is_weak and spec.init == "content" and not spec.normalize_gradients:
        yield JobWarning(
            "style_too_weak",
            "style_weight",
            f"{style_weight:g} beside a content_weight of {content_weight:g} leaves the"
            f" content as it is: {usual:g} is usual at this size",
        )
