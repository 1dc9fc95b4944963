"""The text of a comment at the other side: who wrote it, where and when, then what they wrote. Pure."""

from datetime import datetime

from app.connectors.canonical import Comment

# HaloPSA takes far more; a partner desk may not. What is cut is said.
TEXT_MAX = 30_000


def header(author: str, organisation: str, at: datetime) -> str:
    """``Kim Field (Contoso) · 2026-10-07 14:05 +00:00``: the author's name as text, never an address."""
    name = author or "Unknown author"
    place = f" ({organisation})" if organisation else ""
    offset = at.isoformat()[-6:]  # "+05:30": strftime's %z leaves the colon out
    return f"{name}{place} · {at:%Y-%m-%d %H:%M} {offset}"


def comment_text(comment: Comment, *, organisation: str) -> str:
    """Header line, empty line, text; cut with a visible note when it is too long."""
    text = comment.text.strip() or "(no text)"
    if len(text) > TEXT_MAX:
        text = text[:TEXT_MAX] + f"\n[cut here: {len(text) - TEXT_MAX} more characters at the original]"
    return f"{header(comment.author.name, organisation, comment.created_at)}\n\n{text}"


def resolution_note(organisation: str) -> str:
    """What the resolving action says."""
    return f"Resolved at {organisation}." if organisation else "Resolved at the partner."
