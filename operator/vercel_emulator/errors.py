"""What the emulator answers when it refuses a request."""

from collections.abc import Mapping

from pydantic import JsonValue


class ApiError(Exception):
    """A refusal in Vercel's shape: ``{"error": {"code": …, "message": …, …}}`` under an HTTP status.

    ``fields`` are further fields of the error object; ``headers`` go with the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: Mapping[str, JsonValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, JsonValue]:
        """The JSON body."""
        return error_body(self.code, self.message, self.fields)


class StateFileError(Exception):
    """The state file can't be read or written; the message says why, and what to do."""


def error_body(code: str, message: str, fields: Mapping[str, JsonValue] | None = None) -> dict[str, JsonValue]:
    """An error in Vercel's shape."""
    return {"error": {"code": code, "message": message, **(fields or {})}}


def cert_not_found(cert_id: str) -> ApiError:
    """404 for a certificate that does not exist in the scope of the request."""
    return ApiError(404, "cert_not_found", f"The certificate {cert_id[:100]} does not exist.")
