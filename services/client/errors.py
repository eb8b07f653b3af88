"""What the client raises besides the errors of `shared`: what the server told, or its silence."""

from collections.abc import Mapping
from typing import Any

from impasto.shared.errors import ImpastoError, Violation


class RemoteProblem(ImpastoError):
    """The server told of an error."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """document: problem+json; what it lacks is filled in."""
        super().__init__(
            document.get("detail") or document.get("title"),
            violations=[
                Violation(item.get("field", ""), item.get("value"), item.get("accepted", ""))
                for item in document.get("errors", ())
            ],
        )
        self.code = document.get("code", self.code)
        self.status = document.get("status", self.status)
        self.document = dict(document)

    def problem(self) -> dict[str, Any]:
        return super().problem() | self.document


class ApiError(RemoteProblem):
    """The server refused the request."""

    def about(self, name: str) -> "ApiError":
        """The same, of a file whose name the server was not told."""
        errors = [{**item, "field": name} for item in self.document.get("errors", ())]
        detail = f"{name}: {self.detail.removeprefix('file: ')}"
        return ApiError({**self.document, "detail": detail, "errors": errors})

    def naming(self, names: Mapping[str, str]) -> "ApiError":
        """The same, with the files that stand behind fields of the spec.

        names: of the files, by field.
        """
        errors, detail = [], self.detail
        for item in self.document.get("errors", ()):
            field = item.get("field")
            named = f"{field} ({names[field]})" if field in names else field
            errors.append({**item, "field": named})
            detail = detail.replace(f"{field} is ", f"{named} is ")
        return ApiError({**self.document, "detail": detail, "errors": errors})


class JobFailed(RemoteProblem):
    """The job failed."""

    code = "render_failed"


class NotServed(ImpastoError):
    """No worker can take the job."""

    code = "not_served"
    status = 503


class Unreachable(ImpastoError):
    """No server answers."""

    code = "unreachable"
    status = 503
