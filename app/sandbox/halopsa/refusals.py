"""The ways in which HaloPSA says no. There is no single error format (HaloPSA wire contract, errors)."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

# Shapes seen in the field, in the order in which the `rotating` switch walks through them.
ROTATION = ("object", "text", "nested", "exception", "message", "result")


class Refused(Exception):
    """A request, or one element of its array, is refused.

    ``field`` makes it a conversion error of that member (ASP.NET model state); ``empty`` sends no body at
    all.
    """

    def __init__(self, status: int, text: str = "", *, field: str | None = None, empty: bool = False) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.field = field
        self.empty = empty
        self.element: int | None = None
        self.of_many = False

    def at(self, element: int, count: int) -> "Refused":
        """The same refusal, knowing which element of an array of ``count`` it is about."""
        self.element = element
        self.of_many = count > 1
        return self


class Forbidden(Refused):
    """A right is missing: 403 with an EMPTY body, as most versions answer."""

    def __init__(self) -> None:
        super().__init__(403, empty=True)


class Missing(Refused):
    """The id is unknown. The tenant's switch ``missing_id`` decides how that is said."""

    def __init__(self) -> None:
        super().__init__(404, "Record not found")


def not_convertible(value: Any, member: str) -> Refused:
    """A member is not a whole number: ``95.0`` and ``"95.0"`` are refused, ``"95"`` is not."""
    return Refused(400, f"Error converting value {value!r} to type 'System.Int32'.", field=member)


def _shaped(shape: str, refused: Refused, text: str) -> Any:
    match shape:
        case "text":
            return text
        case "nested":
            return {"error": {"error_description": text}}
        case "exception":
            return {"ClassName": "System.Exception", "Message": text}
        case "message":
            return {"Message": text}
        case "result":
            return {"resultCode": refused.status, "errorMessage": text}
        case _:
            return {"error": text}


class ErrorVoice:
    """Turns a refusal into a body, in the shape the tenant's switch asks for."""

    def __init__(self) -> None:
        self._rotation: Iterator[str] = cycle(ROTATION)

    def body(self, refused: Refused, shape: str) -> Any:
        """The JSON value of the answer, or None for an empty body."""
        if refused.empty:
            return None
        if refused.field is not None:
            member = refused.field if refused.element is None else f"[{refused.element}].{refused.field}"
            return {member: [refused.text]}
        text = f"[{refused.element}]: {refused.text}" if refused.of_many else refused.text
        return _shaped(next(self._rotation) if shape == "rotating" else shape, refused, text)
