"""/Attachment: files of tickets and actions; uploaded as base64, downloaded raw or through a link."""

import base64
import binascii
import mimetypes
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from app.sandbox.halopsa import render
from app.sandbox.halopsa.batches import Commit, save_all
from app.sandbox.halopsa.calls import Call, Reply, Route, Row, whole
from app.sandbox.halopsa.external_links import ATTACHMENT_TABLE, keep_inline, links_of, match_of
from app.sandbox.halopsa.refusals import Missing, Refused

if TYPE_CHECKING:
    from app.sandbox.halopsa.world import TenantWorld

FILES_PREFIX = "_files"


@dataclass(slots=True)
class StoredFile:
    """One attachment: its members and its bytes."""

    id: int
    values: Row
    content: bytes


class FileStore:
    """A tenant's attachments by id and by ticket."""

    def __init__(self) -> None:
        self.by_id: dict[int, StoredFile] = {}
        self.last_id = 0
        self._by_ticket: dict[int, list[int]] = defaultdict(list)

    def add(self, stored: StoredFile) -> None:
        """Keep a new file under its id."""
        self.by_id[stored.id] = stored
        self.last_id = max(self.last_id, stored.id)
        self._by_ticket[stored.values["ticket_id"]].append(stored.id)

    def remove(self, ident: int) -> StoredFile | None:
        """Forget a file; None when there is none."""
        stored = self.by_id.pop(ident, None)
        if stored is not None:
            self._by_ticket[stored.values["ticket_id"]].remove(ident)
        return stored

    def of(self, ticket_id: int, action_id: int | None = None) -> list[StoredFile]:
        """The files of a ticket, or of one of its actions."""
        found = [self.by_id[ident] for ident in self._by_ticket.get(ticket_id, ())]
        return found if action_id is None else [item for item in found if item.values["action_id"] == action_id]

    def count_of(self, ticket_id: int, action_id: int | None = None) -> int:
        """How many files a ticket, or one of its actions, has."""
        if ticket_id not in self._by_ticket:
            return 0
        return len(self._by_ticket[ticket_id]) if action_id is None else len(self.of(ticket_id, action_id))


def _decoded(element: Row) -> bytes:
    text = element.get("data_base64") or element.get("data")
    if not isinstance(text, str) or not text:
        raise Refused(400, "The attachment has no data", field="data_base64")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "The attachment's data is not base64", field="data_base64") from None


def check_inline(given: Any) -> None:
    """Refuse (400) an ``attachments`` member which could not be stored, before anything is written."""
    if given is None:
        return
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise Refused(400, "attachments requires a JSON array of objects.", field="attachments")
    for item in given:
        if not item.get("id"):
            _decoded(item)


def attach_inline(world: "TenantWorld", call: Call, given: Any, ticket_id: int, action_id: int) -> None:
    """Store the files that came inside a ticket or an action (checked before)."""
    for item in given or ():
        if not item.get("id"):
            _store(world, call, item, ticket_id, action_id)


def _store(world: "TenantWorld", call: Call, element: Row, ticket_id: int, action_id: int) -> StoredFile:
    content = _decoded(element)
    name = str(element.get("filename") or "file")
    ident = world.attachments.last_id + 1
    now = world.now()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    hidden = _action_is_hidden(world, ticket_id, action_id)
    stored = StoredFile(
        ident,
        {
            "guid": world.guid("attachment", ident),
            "filename": name,
            "filesize": len(content),
            "content_type": kind,
            "type": 0,
            "unique_id": ticket_id,
            "ticket_id": ticket_id,
            "action_id": action_id,
            "note": str(element.get("note") or ""),
            "desc": str(element.get("desc") or ""),
            "isimage": kind.startswith("image/"),
            "datecreated": now,
            "last_updated": now,
            "showforusers": bool(element.get("showforusers", not hidden)),
            "agent_id": call.actor.agent_id,
            "user_id": call.actor.user_id,
            "third_party_id": str(element.get("third_party_id") or ""),
        },
        content,
    )
    world.attachments.add(stored)
    keep_inline(world, element, ATTACHMENT_TABLE, ticket_id, ident)
    return stored


def _action_is_hidden(world: "TenantWorld", ticket_id: int, action_id: int) -> bool:
    ticket = world.tickets.by_id.get(ticket_id)
    action = ticket.actions.get(action_id) if ticket else None
    return bool(action and action.values["hiddenfromuser"])


def _shape(world: "TenantWorld", stored: StoredFile) -> Row:
    row = {"id": stored.id, **render.dated(stored.values, world.switches)}
    row["external_links"] = links_of(world, ATTACHMENT_TABLE, stored.values["ticket_id"], stored.id)
    return row


def attachments_of(world: "TenantWorld", ticket_id: int, action_id: int | None = None) -> list[Row]:
    """A ticket's (or an action's) files as its JSON shows them, without their bytes."""
    if not world.attachments.count_of(ticket_id):
        return []
    return [_shape(world, stored) for stored in world.attachments.of(ticket_id, action_id)]


def post_attachments(world: "TenantWorld", call: Call) -> Reply:
    """Upload each element's file to its ticket (and action)."""
    return save_all(world, call, _plan)


def _plan(world: "TenantWorld", call: Call, element: Row) -> Commit:
    matched = match_of(world, element, ATTACHMENT_TABLE)
    if matched and matched[1] in world.attachments.by_id:
        known = world.attachments.by_id[matched[1]]
        return lambda: lambda: _shape(world, known)
    if element.get("ticket_id") in (None, "", 0):
        raise Refused(400, "A ticket_id must be given for this Attachment")
    ticket = world.tickets.live(whole(element["ticket_id"], "ticket_id"))
    if ticket is None:
        raise Refused(400, "Record not found")
    action_id = whole(element["action_id"], "action_id") if element.get("action_id") else 0
    if action_id and action_id not in ticket.actions:
        raise Refused(400, "Record not found")
    _decoded(element)

    def commit() -> Callable[[], Row]:
        stored = _store(world, call, element, ticket.id, action_id)
        if world.switches.attachment_moves_last_update:
            world.tickets.touch(ticket, world.now())
        return lambda: _shape(world, stored)

    return commit


def list_attachments(world: "TenantWorld", call: Call) -> Reply:
    """The files of a ticket (``ticket_id`` or ``unique_id``), in the view's envelope; nothing without one."""
    ticket_id = call.number("ticket_id") or call.number("unique_id") or 0
    action_id = call.number("action_id")
    found = [_shape(world, stored) for stored in world.attachments.of(ticket_id, action_id)]
    return Reply(
        body={
            "record_count": len(found),
            "page_no": 1,
            "page_size": max(len(found), 1),
            "type": 0,
            "unique_id": ticket_id,
            "ticket_id": ticket_id,
            "action_id": action_id or 0,
            "attachments": found,
            "folders": [],
        }
    )


def get_attachment(world: "TenantWorld", call: Call) -> Reply:
    """Raw bytes, or with the switch ``attachment_content=link`` JSON with a link that needs no token."""
    stored = world.attachments.by_id.get(call.id())
    if stored is None:
        raise Missing
    if world.switches.attachment_content == "raw":
        return raw_file(stored)
    link = f"{call.base_url}/{world.name}/{FILES_PREFIX}/{stored.values['guid']}"
    return Reply(body=_shape(world, stored) | {"link": link, "download_url": link})


def raw_file(stored: StoredFile) -> Reply:
    """The bytes with their type and name."""
    disposition = f"attachment; filename*=UTF-8''{quote(stored.values['filename'])}"
    return Reply(
        raw=stored.content,
        headers=(("content-type", stored.values["content_type"]), ("content-disposition", disposition)),
    )


def file_by_guid(world: "TenantWorld", guid: str) -> Reply:
    """The file behind a link. Raises :class:`Missing`."""
    for stored in world.attachments.by_id.values():
        if stored.values["guid"] == guid:
            return raw_file(stored)
    raise Missing


def delete_attachment(world: "TenantWorld", call: Call) -> Reply:
    """Delete a file."""
    stored = world.attachments.remove(call.id())
    if stored is None:
        raise Missing
    return Reply(body=_shape(world, stored))


_READ = ("read:tickets", "edit:tickets")
_EDIT = ("edit:tickets",)
ROUTES = (
    Route("GET", "/Attachment", _READ, list_attachments),
    Route("POST", "/Attachment", _EDIT, post_attachments),
    Route("GET", "/Attachment/{id}", _READ, get_attachment),
    Route("DELETE", "/Attachment/{id}", _EDIT, delete_attachment),
)
