"""Is this event only our own write coming back? Pure; used to save reads, never to decide a write."""

from datetime import datetime

from app.connectors.canonical import HookEvent


def is_echo(event: HookEvent, *, our_actor_id: str | None, seen_updated_at: datetime | None) -> bool:
    """Whether the event tells nothing that we have not read back already.

    It must be by our own agent *and* no newer than what we last read of the ticket: the author alone is not enough,
    because rules of the desk run under our account too, and the time alone is not, because desks stamp whole seconds.
    """
    return (
        our_actor_id is not None
        and event.actor_id == our_actor_id
        and event.ticket_updated_at is not None
        and seen_updated_at is not None
        and event.ticket_updated_at <= seen_updated_at
    )
