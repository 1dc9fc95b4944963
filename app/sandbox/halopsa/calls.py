"""One request as the handlers see it, one answer as they give it, and the person behind the request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.sandbox.halopsa.refusals import Refused, not_convertible

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

Row = dict[str, Any]

_TRUE = frozenset({"true", "1", "yes"})
_DATE_FORMS = ("%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it: an agent, or an end user in the portal (``user_id`` > 0). ``application`` is set for API
    calls.
    """

    agent_id: int = 0
    user_id: int = 0
    name: str = ""
    application: str = ""
    scopes: frozenset[str] = frozenset({"all"})

    @property
    def is_user(self) -> bool:
        """Whether an end user acts, not an agent."""
        return self.user_id > 0


@dataclass(slots=True)
class Call:
    """A parsed request. Parameter names are in lower case, ids stand in ``key`` (text of the path's last
    segment).
    """

    method: str
    template: str
    actor: Actor
    params: dict[str, str] = field(default_factory=dict)
    key: str = ""
    body: Any = None
    base_url: str = ""

    def flag(self, name: str) -> bool:
        """A boolean parameter; absent is false."""
        return self.params.get(name, "").lower() in _TRUE

    def number(self, name: str) -> int | None:
        """A whole-number parameter, None when absent or empty. Raises :class:`Refused` (400) when it is not
        one.
        """
        text = self.params.get(name, "").strip()
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise Refused(400, f"The value '{text}' is not valid.", field=name) from None

    def numbers(self, name: str) -> frozenset[int] | None:
        """A comma separated list of ids, None when absent. Raises :class:`Refused` (400)."""
        text = self.params.get(name, "").strip()
        if not text:
            return None
        try:
            return frozenset(int(part) for part in text.split(",") if part.strip())
        except ValueError:
            raise Refused(400, f"The value '{text}' is not valid.", field=name) from None

    def moment(self, name: str) -> datetime | None:
        """A date parameter as aware UTC, None when absent. Raises :class:`Refused` (400)."""
        text = self.params.get(name, "").strip()
        if not text:
            return None
        found = parse_moment(text)
        if found is None:
            raise Refused(400, f"The value '{text}' is not valid.", field=name)
        return found

    def id(self) -> int:
        """The whole-number id in the path. Raises :class:`Refused` (400, model state) when it is not a
        number.
        """
        try:
            return int(self.key)
        except ValueError:
            raise Refused(400, f"The value '{self.key}' is not valid.", field="id") from None

    def elements(self) -> list[Row]:
        """The body's array of objects. Raises :class:`Refused` (400): a bare object is not accepted."""
        if not isinstance(self.body, list) or not all(isinstance(item, dict) for item in self.body):
            raise Refused(
                400,
                "Cannot deserialize the current JSON: the body requires a JSON array of objects, as in [{}].",
            )
        return self.body


@dataclass(slots=True)
class Reply:
    """An answer: ``body`` is JSON unless ``raw`` is set."""

    status: int = 200
    body: Any = None
    raw: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[["TenantWorld", Call], Reply]


@dataclass(frozen=True, slots=True)
class Route:
    """A served method and path, the scopes of which one is enough, and what answers it."""

    method: str
    template: str
    scopes: tuple[str, ...]
    handler: Handler


def parse_moment(text: str) -> datetime | None:
    """ISO text, naive meaning UTC, with ``Z``, an offset or up to 7 fraction digits; None when it is not a
    date.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        head, dot, fraction = text.rstrip("Z").partition(".")
        text = f"{head}.{fraction[:6]}" if dot else head
        for form in _DATE_FORMS:
            try:
                return datetime.strptime(text, form).replace(tzinfo=UTC)
            except ValueError:
                continue
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def whole(value: Any, member: str) -> int:
    """A body member as an id: ints and int-like text; raises the conversion error for ``95.0``, ``"95.0"``,
    text.
    """
    if isinstance(value, bool) or value is None or isinstance(value, float):
        raise not_convertible(value, member)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise not_convertible(value, member) from None


def lenient_whole(value: Any, member: str) -> int:
    """A body member whose column is decimal (Site.client_id): 3, 3.0, "3" and "3.0" are all 3."""
    try:
        return int(float(value))
    except (TypeError, ValueError):
        raise not_convertible(value, member) from None
