"""The commands of one claim while they are worked through. Pure: what may go together, what has to stop."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from app.connectors.canonical import Deferred, WriteResult
from app.outbox.commands import ClaimedCommand


@dataclass(slots=True)
class Outcome:
    """What came of one command: ``final`` results are recorded, others are tried again at ``retry_seconds``."""

    command: ClaimedCommand
    result: WriteResult
    adopted: bool = False
    milliseconds: int = 0


@dataclass(slots=True)
class Batch:
    """The commands of one claim while they are worked through."""

    queues: dict[str, list[ClaimedCommand]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    untouched: list[ClaimedCommand] = field(default_factory=list)

    @classmethod
    def of(cls, commands: Iterable[ClaimedCommand]) -> "Batch":
        batch = cls()
        for command in commands:
            batch.queues.setdefault(command.ordering_key, []).append(command)
        return batch

    def next_runs(self) -> dict[str, list[ClaimedCommand]]:
        """By kind: for each order the longest run of one kind at its head. In-doubt commands go alone."""
        runs: dict[str, list[ClaimedCommand]] = {}
        for queue in self.queues.values():
            kind = queue[0].kind
            for position, command in enumerate(queue):
                # What is in doubt goes alone: whether the next may be sent depends on what looking brings.
                if command.kind != kind or (position > 0 and (command.in_doubt or queue[0].in_doubt)):
                    break
                runs.setdefault(kind, []).append(command)
        return runs

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Take results in; an order whose command must wait stops there."""
        for outcome in outcomes:
            key = outcome.command.ordering_key
            queue = self.queues.get(key)
            if queue is None and isinstance(outcome.result, Deferred) and not outcome.result.perhaps_done:
                # An earlier one of the same order was put off, so this one was held back: it was not tried.
                self.untouched.append(outcome.command)
                continue
            # One that went in the same call as an earlier one that timed out may have been done as well: it stays in
            # doubt like that one. (Giving it back as untried wrote such comments twice.)
            self.outcomes.append(outcome)
            if queue is None:
                continue
            queue.remove(outcome.command)
            if isinstance(outcome.result, Deferred):
                in_this_call = {other.command.id for other in outcomes}
                self.untouched.extend(command for command in queue if command.id not in in_this_call)
                del self.queues[key]
            elif not queue:
                del self.queues[key]

    def put_off(self) -> None:
        """Nothing more can be tried now."""
        for queue in self.queues.values():
            self.untouched.extend(queue)
        self.queues.clear()
