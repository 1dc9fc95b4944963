"""A tenant's tickets and actions in memory, with the indexes that keep incremental lists from reading
everything.
"""

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.sandbox.halopsa.calls import Row


@dataclass(slots=True)
class Action:
    """One action of a ticket. ``values`` are the stored members (dates as datetime); ``id`` counts per
    ticket.
    """

    ticket_id: int
    id: int
    values: Row


@dataclass(slots=True)
class Ticket:
    """One ticket. ``values`` are the stored members (dates as datetime or None)."""

    id: int
    values: Row
    updated: datetime
    actions: dict[int, Action] = field(default_factory=dict)
    last_action_id: int = 0
    custom: dict[int, Any] = field(default_factory=dict)
    audit: list[Row] = field(default_factory=list)
    workflow_step: int = 1
    deleted: bool = False


# (when, ticket id, action id)
_Dated = tuple[datetime, int, int]


class TicketStore:
    """Tickets by id, by last update, and their actions by date and by creation."""

    def __init__(self) -> None:
        self.by_id: dict[int, Ticket] = {}
        self.last_id = 0
        self._by_update: OrderedDict[int, None] = OrderedDict()
        self._newest: datetime | None = None
        self._in_order = True
        self._by_date: list[_Dated] = []
        self._by_creation: list[_Dated] = []

    def live(self, ticket_id: int) -> Ticket | None:
        """The ticket unless it is unknown or deleted."""
        ticket = self.by_id.get(ticket_id)
        return None if ticket is None or ticket.deleted else ticket

    def add(self, ticket: Ticket) -> None:
        """Store a new ticket under its id."""
        self.by_id[ticket.id] = ticket
        self.last_id = max(self.last_id, ticket.id)
        self.touch(ticket, ticket.updated)

    def touch(self, ticket: Ticket, moment: datetime) -> None:
        """Move the ticket's last update to ``moment``, cut to the second as HaloPSA stores it."""
        ticket.updated = moment.replace(microsecond=0)
        self._by_update[ticket.id] = None
        self._by_update.move_to_end(ticket.id)
        if self._newest is not None and ticket.updated < self._newest:
            # The tenant's clock was set back: from now on order of writing is not order of stamps.
            self._in_order = False
        else:
            self._newest = ticket.updated

    def updated_since(self, since: datetime) -> Iterator[Ticket]:
        """Tickets with a last update at or after ``since``, newest first; reads only those."""
        for ticket_id in reversed(self._by_update):
            ticket = self.by_id[ticket_id]
            if ticket.updated >= since:
                yield ticket
            elif self._in_order:
                return

    def add_action(self, ticket: Ticket, values: Row) -> Action:
        """Give the action the ticket's next action id and store it."""
        ticket.last_action_id += 1
        action = Action(ticket.id, ticket.last_action_id, values)
        ticket.actions[action.id] = action
        insort(self._by_date, (values["datetime"], ticket.id, action.id))
        insort(self._by_creation, (values["actiondatecreated"], ticket.id, action.id))
        return action

    def move_action(self, action: Action, moment: datetime) -> None:
        """Change the action's date."""
        _drop(self._by_date, (action.values["datetime"], action.ticket_id, action.id))
        action.values["datetime"] = moment
        insort(self._by_date, (moment, action.ticket_id, action.id))

    def remove_action(self, ticket: Ticket, action_id: int) -> Action | None:
        """Delete an action; its id is not given again. None when there is no such action."""
        action = ticket.actions.pop(action_id, None)
        if action is not None:
            _drop(self._by_date, (action.values["datetime"], ticket.id, action.id))
            _drop(self._by_creation, (action.values["actiondatecreated"], ticket.id, action.id))
        return action

    def actions_between(self, start: datetime, end: datetime, *, by_creation: bool) -> Iterator[Action]:
        """Actions of every live ticket with a date in the closed range, newest first."""
        index = self._by_creation if by_creation else self._by_date
        low = bisect_left(index, start, key=lambda entry: entry[0])
        high = bisect_right(index, end, key=lambda entry: entry[0])
        for place in range(high - 1, low - 1, -1):
            _, ticket_id, action_id = index[place]
            ticket = self.by_id[ticket_id]
            if not ticket.deleted:
                yield ticket.actions[action_id]


def _drop(index: list[_Dated], entry: _Dated) -> None:
    place = bisect_left(index, entry)
    if place < len(index) and index[place] == entry:
        del index[place]
