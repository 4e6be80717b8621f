"""What a client is told when something is not to be had, in OpenAI's form."""

from typing import Any


class Refusal(Exception):  # noqa: N818  # what a client is told, not a fault of ours
    """A request that gets an error: HTTP status, OpenAI's `type` and `code`, and what to do about it."""

    def __init__(
        self,
        status: int,
        kind: str,
        code: str,
        message: str,
        *,
        retry_after_s: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.kind, self.code, self.message = status, kind, code, message
        self.retry_after_s, self.metadata = retry_after_s, metadata

    def body(self) -> dict[str, Any]:
        """OpenAI's error object; `router_metadata` beside it where calls were made."""
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.code}
        return {"error": error} | ({"router_metadata": self.metadata} if self.metadata else {})


def invalid(message: str, code: str = "invalid_request", status: int = 400) -> Refusal:
    """The client's mistake."""
    return Refusal(status, "invalid_request_error", code, message)
