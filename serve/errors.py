"""What a client gets in the place of an answer; every face of the server says it in one shape.

    PackshotError
    └── Refused     the request, its recipe or its picture cannot be used, or the server cannot serve it now

`{"error": {"code": ..., "message": ..., "hint": ...}}`: `code` is a word for programs, `message` says what was wrong,
`hint` what to do.
"""

from __future__ import annotations

from pipelines.errors import PackshotError

MAX_MESSAGE_CHARACTERS = 4000


class Refused(PackshotError):
    """A request that gets no picture: an HTTP status, and the three parts of the error's shape."""

    def __init__(self, status: int, code: str, message: str, hint: str, retry_after_s: int | None = None) -> None:
        super().__init__(status, code, message, hint, retry_after_s)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """The answer's JSON; a message that repeats a huge value is cut."""
        return {"error": {"code": self.code, "message": self.message[:MAX_MESSAGE_CHARACTERS], "hint": self.hint}}

    @property
    def headers(self) -> dict[str, str]:
        """`Retry-After`, where trying again helps."""
        return {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
