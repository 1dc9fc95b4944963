"""Do both organisations hold the same? Read from what they hold, not from what the hub believes."""

from collections import Counter
from collections.abc import Iterable

from tests.support.desks import Desk


def differences(source: Desk, target: Desk, born: Iterable[str], *, born_at_target: Iterable[str] = ()) -> list[str]:
    """What differs, in words; empty when every ticket (by its summary, which nobody else may use) stands once at each
    side with the same fields, and every public word once at each, and no private word away from home."""
    wrong: list[str] = []
    wanted = [*born, *born_at_target]
    for desk in (source, target):
        count = Counter(desk.field(ticket, "summary") for ticket in desk.tickets)
        wrong += [
            f"{summary!r} stands {count[summary]} times at {desk.name}" for summary in wanted if count[summary] != 1
        ]
        wrong += [f"{summary!r} at {desk.name} is nobody's" for summary in count if summary not in wanted]
    for summary in wanted:
        here, there = source.titled(summary), target.titled(summary)
        if len(here) == len(there) == 1:
            wrong += _ticket(source, target, here[0], there[0])
    return wrong


def _ticket(source: Desk, target: Desk, here: int, there: int) -> list[str]:
    wrong = []
    if source.fields(here) != target.fields(there):
        wrong.append(f"{source.fields(here)} at {source.name}, {target.fields(there)} at {target.name}")
    for home, at_home, away, copied in ((source, here, target, there), (target, there, source, here)):
        public = [note.said for note in home.notes(at_home) if not note.by_us]
        copies = [note.said for note in away.notes(copied) if note.by_us]
        if copies != public:
            wrong.append(f"{home.name} said {public}, {away.name} holds {copies}")
        private = [note.text for note in home.notes(at_home, hidden=True) if not note.by_us]
        wrong += [f"{away.name} can read {text!r} of {home.name}" for text in private if away.holds(text)]
    return wrong
