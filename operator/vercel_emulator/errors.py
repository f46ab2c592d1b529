"""The errors that the emulator answers with."""

from collections.abc import Mapping

from pydantic import JsonValue


class ApiError(Exception):
    """A refusal in Vercel's format: ``{"error": {"code": …, "message": …, …}}`` with an HTTP status.

    Attributes:
        status: The HTTP status.
        code: The error's code.
        message: The error's message.
        fields: More fields of the error object.
        headers: Headers of the answer.
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
        """Set the attributes."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})

    def body(self) -> dict[str, JsonValue]:
        """Return the JSON body."""
        return error_body(self.code, self.message, self.fields)


class StateFileError(Exception):
    """The state file can't be read or written. The message says why, and what to do."""


def error_body(code: str, message: str, fields: Mapping[str, JsonValue] | None = None) -> dict[str, JsonValue]:
    """Return the JSON body of an error in Vercel's format."""
    return {"error": {"code": code, "message": message, **(fields or {})}}


def cert_not_found(cert_id: str) -> ApiError:
    """Return the 404 for a certificate that does not exist in the request's scope."""
    return ApiError(404, "cert_not_found", f"The certificate {cert_id[:100]} does not exist.")
