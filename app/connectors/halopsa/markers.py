"""Our key on what we write, in every place where HaloPSA may keep it.

Best first: a row of HaloPSA's own correlation table (``new_external_link``), which nobody sees and which can
be asked for. Then a hidden element in an action's HTML. Then a visible last line, for systems that keep
neither. Whether a marker is genuine is decided elsewhere (it is signed); here it is only written and found.
"""

import html
import re
from collections.abc import Iterable
from typing import Any

from app.connectors.halopsa import wire

INTEGRATION_NAME = "Parhelion"
# What a marker may consist of: anything else could break out of an attribute or a line.
_MARKER = r"[A-Za-z0-9][A-Za-z0-9._:\-]{3,199}"
_SPAN = re.compile(rf"""<span\b[^>]*\bdata-parhelion\s*=\s*["']({_MARKER})["'][^>]*>""", re.IGNORECASE)
_ONLY_TAGS = re.compile(r"(?:\s|&nbsp;|<[^>]*>)*\Z")
_LAST_LINE = re.compile(rf"^\[ref:({_MARKER})\]$")
# Mail programs quote with these; a marker in or below a quotation belongs to the quoted comment.
_QUOTE_START = re.compile(r"<(?:blockquote|div[^>]*\b(?:class|id)\s*=\s*[\"'][^\"']*(?:quote|reply))", re.IGNORECASE)


def external_link(marker: str, description: str) -> dict[str, Any]:
    """The correlation row to be stored with a new ticket, action or attachment."""
    return {
        "third_party_id": marker,
        "third_party_desc": description[:200],
        "integration_name": INTEGRATION_NAME,
    }


def is_ours(row: wire.Row) -> bool:
    """Whether a correlation row was written by this product."""
    return wire.text(row.get("integration_name")).strip().casefold() == INTEGRATION_NAME.casefold()


def linked(rows: Any) -> tuple[str, ...]:
    """Our markers among a record's ``external_links``."""
    found = wire.objects(rows) if isinstance(rows, list) else []
    return tuple(wire.text(row.get("third_party_id")) for row in found if is_ours(row) and row.get("third_party_id"))


def foreign(rows: Any) -> tuple[str, ...]:
    """Other integrations that hold a correlation row on the record, by name."""
    found = wire.objects(rows) if isinstance(rows, list) else []
    names = (
        wire.text(row.get("integration_name")).strip() or f"module {wire.text(row.get('module_id')) or 'unknown'}"
        for row in found
        if not is_ours(row)
    )
    return tuple(dict.fromkeys(names))


def markup(text: str, marker: str) -> str:
    """``text`` as HTML with the marker in an element that is not shown."""
    escaped = html.escape(text, quote=False).replace("\r\n", "\n").replace("\n", "<br>")
    return f'{escaped}<span data-parhelion="{html.escape(marker)}" style="display:none"></span>'


def with_last_line(text: str, marker: str) -> str:
    """``text`` with a visible marker as its last line."""
    return f"{text.rstrip()}\n[ref:{marker}]"


def in_texts(text: str, markup_text: str) -> tuple[str, ...]:
    """The markers that an action's own texts carry: a hidden element outside quotations, or the very
    last line."""
    found = _in_markup(markup_text) if "data-parhelion" in markup_text else []
    last = text.rstrip().rpartition("\n")[2].strip()
    match = _LAST_LINE.match(last)
    if match:
        found.append(match[1])
    return tuple(dict.fromkeys(found))


def of_action(row: wire.Row) -> tuple[str, ...]:
    """Every marker an action carries."""
    own = linked(row.get("external_links"))
    written = row.get("new_external_link")
    echoed = linked([written]) if isinstance(written, dict) else ()
    texts = in_texts(wire.text(row.get("note")), wire.text(row.get("note_html")))
    return _unique((*own, *echoed, *texts))


def of_ticket(row: wire.Row) -> tuple[str, ...]:
    """Every marker a ticket carries. ``third_party_id_string`` may be somebody else's: the signature
    tells."""
    own = linked(row.get("external_links"))
    key = wire.text(row.get("third_party_id_string")).strip()
    return _unique((*own, key) if key else own)


def _in_markup(markup_text: str) -> list[str]:
    """The marker that ends the text before the first quotation: one with words after it was pasted or
    quoted."""
    quote = _QUOTE_START.search(markup_text)
    own = markup_text[: quote.start()] if quote else markup_text
    return [match[1] for match in _SPAN.finditer(own) if _ONLY_TAGS.match(own, match.end())][-1:]


def _unique(markers: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(markers))
