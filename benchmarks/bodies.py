"""The signed events that the ingest measurement sends: unique ones, as HaloPSA sends them."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.connectors.halopsa.webhook import SIGNATURE_HEADER
from app.core.http.signing import sign_hmac
from app.sandbox.halopsa import render
from app.sandbox.halopsa.calls import Row
from app.sandbox.halopsa.events import TICKET_UPDATED
from app.sandbox.halopsa.world import TenantWorld

SIGNATURE = SIGNATURE_HEADER.lower()


@dataclass(frozen=True, slots=True)
class Template:
    """A webhook body around its delivery id: ``before + id + after``."""

    before: bytes
    after: bytes

    def body(self, delivery_id: str) -> bytes:
        """The body of one event."""
        return self.before + delivery_id.encode() + self.after


def sandbox_event() -> Template:
    """The body that the sandbox's HaloPSA sends when an agent edits a ticket (about 2.6 KB, the full payload)."""
    world = TenantWorld("bench")
    raised: list[Row] = []
    agent = next(iter(world.configuration.agents))
    hook: Row = {
        "name": "bench",
        "url": "http://127.0.0.1:1/",
        "active": True,
        "events": [{"eventno": TICKET_UPDATED}],
    }
    world.act("POST", "/Webhook", agent_id=agent, body=[hook])
    # Nothing is delivered: the content of the event is all that is wanted.
    world.deliveries.raise_event = lambda *event: raised.append(event[-1])  # type: ignore[method-assign]  # ours alone
    ticket: Row = {
        "summary": "Printer on the second floor",
        "details": "It hums and prints nothing.",
        "tickettype_id": 1,
        "client_id": 2,
    }
    made = world.act("POST", "/Tickets", agent_id=agent, body=[ticket]).body
    made = made[0] if isinstance(made, list) else made
    world.act("POST", "/Tickets", agent_id=agent, body=[{"id": made["id"], "summary": "Printer, second floor"}])
    body = render.to_bytes(raised[-1])
    before, _, after = body.partition(str(raised[-1]["id"]).encode())
    return Template(before, after)


def signed(template: Template, secret: str, count: int) -> Iterator[tuple[str, str]]:
    """``count`` pairs of a fresh delivery id and the signature of its body."""
    for _ in range(count):
        delivery_id = str(uuid.uuid4())
        yield delivery_id, sign_hmac(secret, template.body(delivery_id), encoding="base64")


def write_ring(path: Path, template: Template, secret: str, count: int) -> None:
    """A ring file for the load generators: ``<delivery id> <signature>`` a line."""
    with path.open("w") as file:
        file.writelines(f"{ident} {signature}\n" for ident, signature in signed(template, secret, count))


def write_template(path: Path, template: Template) -> None:
    """The template in two lines. JSON has no raw line ends, so two lines are two parts."""
    path.write_bytes(template.before + b"\n" + template.after + b"\n")
