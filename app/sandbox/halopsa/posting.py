"""One HTTP call of one delivery, and what came back."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core.http.client import HTTPError
from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.signatures import headers_for
from app.sandbox.halopsa.switches import Switches

if TYPE_CHECKING:
    from app.core.http.client import AsyncClient

METHOD_GET = 1
# The log keeps the beginning of an answer, enough to read an error by.
KEPT_ANSWER_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call: ``status`` 0 when there was no answer, and then ``body`` says why."""

    status: int
    headers: str
    body: str
    duration_seconds: float

    @property
    def delivered(self) -> bool:
        """Any 2xx counts."""
        return 200 <= self.status < 300


async def post_delivery(
    client: "AsyncClient", webhook: Row, body: bytes, switches: Switches, *, corrupt: bool
) -> tuple[dict[str, str], Outcome]:
    """Call the webhook's URL; the headers as the log may show them (no password) and the outcome. Never
    raises.
    """
    proof = headers_for(webhook, body, switches, corrupt=corrupt)
    headers = {"Content-Type": webhook["content_type"] or "application/json"}
    method = "GET" if webhook["method"] == METHOD_GET else "POST"
    started = time.perf_counter()
    try:
        response = await client.request(
            method,
            webhook["url"],
            content=b"" if method == "GET" else body,
            headers=headers | proof,
            timeout=switches.delivery_timeout_seconds,
        )
    except HTTPError as error:
        outcome = Outcome(0, "", f"{type(error).__name__}: {error}", time.perf_counter() - started)
    else:
        answered = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        text = response.text[:KEPT_ANSWER_CHARACTERS]
        outcome = Outcome(response.status_code, answered, text, time.perf_counter() - started)
    return headers | dict.fromkeys(proof, "(not shown)"), outcome
