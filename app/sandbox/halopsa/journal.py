"""What the sandbox was asked: every API request, in a bounded ring, and counters that never lose any."""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

RING = 5000
# Larger bodies (uploads, wide batches) are counted but not kept: the journal must not become the store.
KEPT_BODY_BYTES = 64 * 1024
_SECRET_MEMBERS = ("basic_password", "client_secret", "password", "access_token")
_SECRET_TEMPLATES = frozenset({"/auth/token"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One request: ``path`` as asked, ``template`` as counted, ``status`` 0 when no answer was given."""

    seq: int
    at: datetime
    method: str
    path: str
    template: str
    params: dict[str, str]
    status: int
    duration_ms: float
    application: str
    body_bytes: int
    body: Any
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        """The entry as the control API shows it."""
        found = {name: getattr(self, name) for name in self.__slots__}
        return found | {"at": self.at.isoformat().replace("+00:00", "Z")}


class Journal:
    """A tenant's requests, newest last."""

    def __init__(self, ring: int = RING) -> None:
        self._entries: deque[Entry] = deque(maxlen=ring)
        self.counters: dict[str, int] = {}
        self.seq = 0

    def record(
        self,
        *,
        at: datetime,
        method: str,
        path: str,
        template: str,
        params: dict[str, str],
        status: int,
        duration_ms: float,
        application: str,
        body_bytes: int,
        body: Any,
        fault: str = "",
    ) -> None:
        """Add a request and count it. A body with a secret in it is not kept."""
        self.seq += 1
        name = f"{method} {template}"
        self.counters[name] = self.counters.get(name, 0) + 1
        if body_bytes > KEPT_BODY_BYTES or template in _SECRET_TEMPLATES or _holds_secret(body):
            body = None
        self._entries.append(
            Entry(
                self.seq,
                at,
                method,
                path,
                template,
                params,
                status,
                duration_ms,
                application,
                body_bytes,
                body,
                fault,
            )
        )

    def entries(self, *, since: int = 0, method: str = "", path: str = "", limit: int | None = None) -> list[Entry]:
        """Entries with a sequence number above ``since``, of that method and path (as asked, or its
        template).
        """
        wanted = path.lower()
        found = [
            entry
            for entry in self._entries
            if entry.seq > since
            and (not method or entry.method == method.upper())
            and (not wanted or wanted in (entry.template.lower(), entry.path.lower()))
        ]
        return found if limit is None else found[-limit:] if limit else []

    def count(self, method: str, template: str) -> int:
        """How often that method and path template was asked, ever: ``count("POST", "/Tickets")``."""
        return self.counters.get(f"{method} {template}", 0)

    def reset(self, *, counters: bool = False) -> None:
        """Empty the ring. The sequence goes on; the counters are zeroed only on request."""
        self._entries.clear()
        if counters:
            self.counters.clear()


def _holds_secret(body: Any) -> bool:
    items = body if isinstance(body, list) else [body]
    return any(isinstance(item, dict) and any(item.get(member) for member in _SECRET_MEMBERS) for item in items)
