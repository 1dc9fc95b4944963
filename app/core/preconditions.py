"""Optimistic locking in HTTP words: ``ETag`` out, ``If-Match`` and ``If-None-Match`` in (RFC 9110, 13).

The tag is the row's version in quotes. A change needs ``If-Match``: without it two people who edit the same
thing overwrite each other and neither learns of it (RFC 6585, 428).
"""

from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Header, Response

from app.core.errors import Invalid, Pointer, PreconditionFailed, PreconditionRequired


class HasVersion(Protocol):
    """A row that counts its changes."""

    @property
    def version(self) -> int: ...


OutT = TypeVar("OutT")

ETAG_HEADER: dict[str, Any] = {
    "headers": {
        "ETag": {
            "description": "The version of the resource; send it as `If-Match` with a change.",
            "schema": {"type": "string", "examples": ['"3"']},
        }
    }
}


def etag(row: HasVersion) -> str:
    """The strong validator of a row: ``"3"``."""
    return f'"{row.version}"'


def _tags(text: str) -> frozenset[str]:
    return frozenset(tag.strip().removeprefix("W/") for tag in text.split(","))


class Expected:
    """The versions a caller is ready to change."""

    def __init__(self, if_match: str) -> None:
        self._any = if_match.strip() == "*"
        self._tags = _tags(if_match)

    def check(self, row: HasVersion) -> None:
        """Raise :class:`PreconditionFailed` unless ``row`` is at an expected version. Hold a lock on the
        row."""
        if not self._any and etag(row) not in self._tags:
            raise PreconditionFailed(
                f"The resource is at version {etag(row)}, not at the one that If-Match names.",
                next_step="Read it again, apply the change to what it is now, and send its new ETag.",
                headers={"ETag": etag(row)},
            )


def _expected(
    if_match: Annotated[
        str | None,
        Header(
            description='The ETag last read, for example `"3"`; `*` changes whatever is there.',
            max_length=200,
        ),
    ] = None,
) -> Expected:
    if if_match is None:
        raise PreconditionRequired(
            "A change has to say which version it changes.",
            next_step="Read the resource and send its ETag in the If-Match header.",
        )
    if if_match.strip() != "*" and not all(tag.startswith('"') and tag.endswith('"') for tag in _tags(if_match)):
        raise Invalid(
            "The If-Match header is not an entity tag.",
            next_step='Send the ETag exactly as it was read, with its quotes: "3".',
            pointers=(Pointer("header:If-Match", 'must be of the form "3", quotes included, or *'),),
        )
    return Expected(if_match)


IfMatch = Annotated[Expected, Depends(_expected)]

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="The ETag of a copy you have; 304 when it is still current."),
]


def versioned(response: Response, row: HasVersion, out: OutT, if_none_match: str | None = None) -> OutT | Response:
    """``out`` with its ETag set, or a bare 304 when the caller's copy is current."""
    if if_none_match is not None:
        tags = _tags(if_none_match)
        if "*" in tags or etag(row) in tags:
            return Response(status_code=304, headers={"ETag": etag(row)})
    response.headers["ETag"] = etag(row)
    return out
