"""The base of every named failure.

A failure is a type: rooms subclass :class:`AppError` in their ``errors.py`` and raise it where the failure is known.
``core.problems`` renders it once, as RFC 9457 ``application/problem+json``. A failure without a subclass is a bug
and answers 500.
"""

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Pointer:
    """One place in the caller's input that is wrong: a JSON pointer (``/name``) or a parameter (``?limit``)."""

    pointer: str
    message: str


class AppError(Exception):
    """A named failure with an HTTP status, a stable code and a sentence for a person.

    ``detail`` says what happened and to what, ``next_step`` what the reader can do about it.
    ``extras`` are added to the problem body; nothing secret may stand in any of them.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        next_step: str | None = None,
        pointers: tuple[Pointer, ...] = (),
        headers: dict[str, str] | None = None,
        **extras: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step
        self.pointers = pointers
        self.headers = headers or {}
        self.extras = extras


class NotFound(AppError):
    """The row does not exist, or exists at another tenant: the answer is the same for both."""

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(AppError):
    """The request contradicts the present state."""

    status = 409
    code = "conflict"
    title = "Conflicts with the present state"


class Invalid(AppError):
    """The input is well formed JSON but breaks a rule."""

    status = 422
    code = "invalid_input"
    title = "Some of the input is not valid"


class Unauthenticated(AppError):
    """No credential, or one that is not (or no longer) valid."""

    status = 401
    code = "unauthenticated"
    title = "A valid API key is needed"


class Forbidden(AppError):
    """The credential is valid but lacks a scope."""

    status = 403
    code = "forbidden"
    title = "The API key lacks a scope"


class PreconditionRequired(AppError):
    """A change came without ``If-Match`` (RFC 6585)."""

    status = 428
    code = "precondition_required"
    title = "If-Match is needed"


class PreconditionFailed(AppError):
    """The row changed since the caller read it (RFC 9110, 13.1.1)."""

    status = 412
    code = "precondition_failed"
    title = "The resource has changed"


class TooLarge(AppError):
    """The body is over the cap."""

    status = 413
    code = "body_too_large"
    title = "The body is too large"


class Unavailable(AppError):
    """A part that is needed now (the database, as a rule) does not answer."""

    status = 503
    code = "unavailable"
    title = "Temporarily unavailable"
