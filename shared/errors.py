"""One tree of errors: a stable `code` per class, the docstring is the default message."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Violation:
    """One field that was refused: where, what came, what is accepted."""

    field: str
    value: Any
    accepted: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.field}: {self.accepted}"
        return f"{self.field} is {self.value!r}, accepted: {self.accepted}"


class ImpastoError(Exception):
    """Something went wrong inside Impasto."""

    code = "internal_error"
    status = 500  # the HTTP status that the API answers with

    def __init__(self, detail: str | None = None, *, violations: Sequence[Violation] = ()) -> None:
        told = detail or "; ".join(map(str, violations))
        self.detail = told or (type(self).__doc__ or "").strip()
        self.violations = tuple(violations)
        super().__init__(self.detail)

    def problem(self) -> dict[str, Any]:
        """The error as a problem+json document (RFC 9457)."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": (type(self).__doc__ or "").strip().rstrip("."),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.violations:
            document["errors"] = [
                {"field": v.field, "value": v.value, "accepted": v.accepted}
                for v in self.violations
            ]
        return document


# What a client can mend.


class InvalidSpec(ImpastoError):
    """The job's spec is not valid."""

    code = "invalid_spec"
    status = 422


class MalformedRequest(ImpastoError):
    """The request cannot be read."""

    code = "malformed_request"
    status = 400


class InvalidRequest(ImpastoError):
    """The request is not valid."""

    code = "invalid_request"
    status = 422


class InvalidImage(ImpastoError):
    """The picture cannot be used."""

    code = "invalid_image"
    status = 422


class BodyTooLarge(ImpastoError):
    """The request is larger than this server accepts."""

    code = "body_too_large"
    status = 413


class UriTooLong(ImpastoError):
    """The address is longer than this server accepts."""

    code = "uri_too_long"
    status = 414


class ExpectationFailed(ImpastoError):
    """The server cannot do what the Expect header asks for."""

    code = "expectation_failed"
    status = 417


class HeadersTooLarge(ImpastoError):
    """The headers are larger than this server accepts."""

    code = "headers_too_large"
    status = 431


class UnsupportedMediaType(ImpastoError):
    """The content type is not one that this address accepts."""

    code = "unsupported_media_type"
    status = 415


class NotFound(ImpastoError):
    """There is no such thing here."""

    code = "not_found"
    status = 404


class AssetNotFound(NotFound):
    """No picture with this id has been uploaded."""

    code = "asset_not_found"


class JobNotFound(NotFound):
    """There is no job with this id."""

    code = "job_not_found"


class SnapshotNotFound(NotFound):
    """The job has no picture of this iteration."""

    code = "snapshot_not_found"


class Conflict(ImpastoError):
    """The request does not go with the present state."""

    code = "conflict"
    status = 409


class IdempotencyConflict(Conflict):
    """This idempotency key was used before, with another spec."""

    code = "idempotency_conflict"


class NotFinished(Conflict):
    """The job has no result, or not yet."""

    code = "not_finished"


class ResultExpired(ImpastoError):
    """What the job made was deleted, since it is older than results are kept."""

    code = "result_expired"
    status = 410


# What an operator can mend.


class Unavailable(ImpastoError):
    """A part of the service is out of reach; try again shortly."""

    code = "unavailable"
    status = 503


class StorageFull(Unavailable):
    """There is no space left; free some, and what waits goes on by itself."""

    code = "storage_full"


class Busy(Unavailable):
    """As many pictures are being decoded as this server can; try again shortly."""

    code = "busy"


class DeviceStalled(Unavailable):
    """The device of a worker does not get any further."""

    code = "device_stalled"


class InvalidSetting(ImpastoError):
    """A setting is not valid."""

    code = "invalid_setting"


class DecoderKilled(ImpastoError):
    """The process that decodes the picture was killed; this machine may be short of memory."""

    code = "decoder_killed"  # not Unavailable: an attempt that it ends counts, or it had no end


class SchemaOutdated(ImpastoError):
    """The database's schema is not the one that this version needs; run `impasto migrate`."""

    code = "schema_outdated"


class ObjectNotFound(ImpastoError):
    """The storage has no object under this key."""

    code = "object_not_found"


# How a render ends without a picture.


class RenderFailed(ImpastoError):
    """The render failed."""

    code = "render_failed"


class Diverged(RenderFailed):
    """The loss became infinite or not a number."""

    code = "diverged"


class OutOfMemory(RenderFailed):
    """The render needs more memory than the worker's device has."""

    code = "out_of_memory"


class DeadlineExceeded(RenderFailed):
    """The job's deadline passed before it was finished."""

    code = "deadline_exceeded"


class AttemptsExhausted(RenderFailed):
    """The job failed on every attempt that it had."""

    code = "attempts_exhausted"


# Not failures: stop, and write nothing (a hand-back puts the job into the queue again).


class LeaseLost(ImpastoError):
    """The job is no longer this attempt's."""

    code = "lease_lost"


class Cancelled(ImpastoError):
    """Somebody cancelled the job."""

    code = "cancelled"


class HandedBack(ImpastoError):
    """The worker is shutting down."""

    code = "handed_back"
